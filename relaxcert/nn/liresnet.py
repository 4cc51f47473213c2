"""LiResNet: a deep backbone of linear residual blocks, whose bounds are those of the sums.

Hu, Zou, Wang, Leino, Fredrikson, *Unlocking Deterministic Robustness Certification on ImageNet*,
NeurIPS 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from relaxcert.errors import InvalidInput
from relaxcert.nn.blocks import Residual
from relaxcert.nn.layers import MinMax
from relaxcert.nn.shapes import Scale


def liresnet(
    shape: Sequence[int],
    num_classes: int,
    *,
    width: int = 64,
    depth: int = 6,
    features: int = 512,
    stride: int = 2,
) -> nn.Sequential:
    """Stem, linear residual blocks, neck, dense head; (batch, *shape) -> (batch, num_classes).

    Stem: Conv with stride s and kernel 2 s + 1 (width), MinMax. ``depth`` blocks
    x + alpha conv(x) with a Conv 3x3 and alpha = 1 / sqrt(depth), each followed by MinMax: the
    block is one kernel, I + alpha W, and is bounded as such, not by 1 + alpha ||W||. Neck: Conv 2x2
    with stride 2 (2 width), MinMax, Dense ``features``, MinMax. Head: Dense ``num_classes``. Zero
    padding, zero biases.

    The sizes are ours, smaller than the authors'. Convolutions begin as orthogonal matrices
    (outputs x taps) over the square root of their taps, so that no norm exceeds 1.

    Args:
        shape: (channels, height, width) of one image, both sides multiples of 2 s.
        num_classes: number of logits.
        width: channels of the blocks, even.
        depth: number of blocks.
        features: width of the dense layer, even.
        stride: s of the stem; the blocks work on images smaller by it.

    Raises:
        InvalidInput: sizes that do not fit.
    """
    _check_sizes(width, depth, features, stride)
    channels, height, breadth = _checked(shape, num_classes, 2 * stride)
    stem = _conv(channels, width, 2 * stride + 1, stride=stride, padding=stride)
    layers: list[nn.Module] = [stem, MinMax()]
    for _ in range(depth):
        block = nn.Sequential(_conv(width, width, 3, padding=1), Scale(1.0 / math.sqrt(depth)))
        layers += [Residual(block), MinMax()]
    layers += [_conv(width, 2 * width, 2, stride=2), MinMax(), nn.Flatten()]
    flat = 2 * width * (height // (2 * stride)) * (breadth // (2 * stride))
    return nn.Sequential(*layers, _linear(flat, features), MinMax(), _linear(features, num_classes))


def _conv(before: int, after: int, kernel: int, *, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    layer = nn.Conv2d(before, after, kernel, stride=stride, padding=padding)
    # Taps that touch one input: ||conv|| <= sqrt(of them) ||matrix (outputs, inputs x taps)||.
    touching = math.ceil(kernel / stride) ** 2
    nn.init.orthogonal_(layer.weight, gain=1.0 / math.sqrt(touching))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _linear(before: int, after: int) -> nn.Linear:
    layer = nn.Linear(before, after)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _checked(shape: Sequence[int], num_classes: int, divisor: int) -> tuple[int, int, int]:
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 1 or divisor < 1 or any(n % divisor for n in sizes[1:]):
        raise InvalidInput(
            f"shape={sizes} must be (channels, height, width) with both sides multiples of "
            f"{divisor}, by which stem and neck divide them: pad or resize the images."
        )
    if num_classes < 2:
        raise InvalidInput(f"num_classes={num_classes} must be at least 2.")
    return sizes[0], sizes[1], sizes[2]


def _check_sizes(width: int, depth: int, features: int, stride: int) -> None:
    for name, size in (("width", width), ("features", features)):
        if size < 2 or size % 2:
            raise InvalidInput(f"{name}={size} must be even and at least 2: MinMax sorts pairs.")
    for name, size in (("depth", depth), ("stride", stride)):
        if size < 1:
            raise InvalidInput(f"{name}={size} must be at least 1.")
