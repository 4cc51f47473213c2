"""The paper's convolutional backbones (Appendix E), for images of any size that can be halved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torch import nn

from relaxcert.errors import InvalidInput
from relaxcert.nn.layers import MinMax
from relaxcert.nn.shapes import InvertibleDownsampling

_DENSE = 256
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def conv_net(shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """The CIFAR-100 and EuroSAT network: two blocks of convolution, MinMax, down-sampling.

    [Conv 3x3 (32), MinMax, InvertibleDownsampling], the same with 64, Dense 256, MinMax, Dense 256,
    MinMax, Dense C; zero padding, orthogonal initialisation, zero biases.

    Args:
        shape: (channels, height, width), both sides multiples of 4.
        num_classes: number of logits.

    Raises:
        InvalidInput: a shape that does not fit.
    """
    channels, height, width = _checked(shape, num_classes, 4)
    layers: list[nn.Module] = []
    for before, after in ((channels, 32), (4 * 32, 64)):
        layers += [_conv(before, after), MinMax(), InvertibleDownsampling()]
    features = 4 * 64 * (height // 4) * (width // 4)
    layers += [nn.Flatten(), _dense(features, _DENSE), MinMax(), _dense(_DENSE, _DENSE), MinMax()]
    return nn.Sequential(*layers, _dense(_DENSE, num_classes))


def deep_conv_net(shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """The Tiny-ImageNet network: three blocks, each halved by a strided convolution.

    Two Conv 3x3 (64) and a Conv 4x4 with stride 2 (64); the same with 128; one Conv 3x3 (256) and a
    Conv 4x4 with stride 2 (256); Dense 256; Dense C; MinMax between, zero padding 1, orthogonal
    initialisation, zero biases.

    Args:
        shape: (channels, height, width), both sides multiples of 8.
        num_classes: number of logits.

    Raises:
        InvalidInput: a shape that does not fit.
    """
    channels, height, width = _checked(shape, num_classes, 8)
    layers: list[nn.Module] = []
    for plain, size in ((2, 64), (2, 128), (1, 256)):
        for _ in range(plain):
            layers += [_conv(channels, size), MinMax()]
            channels = size
        layers += [_conv(size, size, kernel=4, stride=2), MinMax()]
    features = 256 * (height // 8) * (width // 8)
    layers += [nn.Flatten(), _dense(features, _DENSE), MinMax()]
    return nn.Sequential(*layers, _dense(_DENSE, num_classes))


def _conv(before: int, after: int, *, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(before, after, kernel, stride=stride, padding=1)
    return _initialised(layer)


def _dense(before: int, after: int) -> nn.Linear:
    return _initialised(nn.Linear(before, after))


def _initialised(layer: Layer) -> Layer:
    nn.init.orthogonal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _checked(shape: Sequence[int], num_classes: int, divisor: int) -> tuple[int, int, int]:
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 1 or sizes[1] % divisor or sizes[2] % divisor:
        raise InvalidInput(
            f"shape={sizes} must be (channels, height, width) with both sides multiples of "
            f"{divisor}: the network halves them; pad or resize the images."
        )
    if num_classes < 2:
        raise InvalidInput(f"num_classes={num_classes} must be at least 2.")
    return sizes[0], sizes[1], sizes[2]
