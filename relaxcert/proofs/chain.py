"""Networks that a proof file can speak of: chains of layers that the checker knows."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer

# Names, so that a kind of layer need not be imported to be known.
_KNOWN = (
    "Linear",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ReLU",
    "Abs",
    "LeakyReLU",
    "MinMax",
    "Flatten",
    "Identity",
    "Dropout",
    "InputNormalisation",
)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MOST_ENTRIES = 2**22  # of a matrix, or of an unrolled convolution; as in the checker


def leaves(backbone: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every layer of nested sequences with its path, also the second use of a shared one."""
    if type(backbone) is not nn.Sequential:
        yield path, backbone
        return
    children: dict[str, nn.Module] = vars(backbone)["_modules"]
    for name, child in children.items():
        yield from leaves(child, f"{path}.{name}" if path else name)


def check_provable(backbone: nn.Module) -> None:
    """Refuse what the checker would refuse.

    Raises:
        UnsupportedLayer: names the layer that proof files cannot speak of.
    """
    for path, layer in leaves(backbone):
        if type(layer).__name__ not in _KNOWN:
            raise UnsupportedLayer(
                f"backbone.{path} is a {type(layer).__name__}, of which no proof file can speak: "
                f"the independent checker knows chains of {', '.join(_KNOWN)}. Certify without "
                "--proof."
            )


def matrices_of(backbone: nn.Module, point: Tensor) -> dict[str, Tensor]:
    """The matrix of each Linear and convolution layer, float64, by path.

    That of a convolution depends on the shape of its input, so one point, (1, ...), is passed
    through. Its entries are copies of the kernel's: products with 0 and 1 are exact.

    Raises:
        UnsupportedLayer: a matrix that is too large to be written.
    """
    found: dict[str, Tensor] = {}
    exact = copy.deepcopy(backbone).to("cpu", torch.float64).eval()
    hidden = point.detach().to("cpu", torch.float64)
    with torch.no_grad():
        for path, layer in leaves(exact):
            shape, hidden = hidden.shape[1:], layer(hidden)
            if isinstance(layer, nn.Linear):
                found[path] = layer.weight.detach()
                _check_size(path, *layer.weight.shape)
            elif isinstance(layer, _CONVOLUTIONS):
                found[path] = _unrolled(layer, path, shape, hidden[0].numel())
    return found


def _unrolled(layer: nn.Module, path: str, shape: torch.Size, outputs: int) -> Tensor:
    inputs = math.prod(shape)
    _check_size(path, outputs, inputs)
    without_bias = copy.deepcopy(layer)
    without_bias.register_parameter("bias", None)
    basis = torch.eye(inputs, dtype=torch.float64).reshape(inputs, *shape)
    return without_bias(basis).flatten(1).T


def _check_size(path: str, outputs: int, inputs: int) -> None:
    if inputs * outputs > _MOST_ENTRIES:
        raise UnsupportedLayer(
            f"backbone.{path} is a matrix of {outputs} x {inputs}, more than {_MOST_ENTRIES} "
            "entries (convolutions are unrolled): no proof file is written for it."
        )
