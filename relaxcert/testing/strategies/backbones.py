"""Strategies for networks: supported layers with exact, small, dyadic weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from relaxcert.nn.elementwise import Abs
from relaxcert.nn.layers import InputNormalisation, MinMax

Shape = tuple[int, ...]
# Draws a layer that takes inputs of this shape (without the batch), or gives None if none does.
Maker = Callable[[st.DrawFn, Shape], nn.Module | None]


def dyadic_weights(*shape: int, largest: int = 8, dtype: torch.dtype = torch.float32) -> Any:
    """Tensors of quarters between -largest/4 and largest/4; shrinks to zeros.

    Sums and products of a few of them are exact in float32, and cheap as Fractions.
    """
    count = prod(shape)
    numbers = st.lists(st.integers(-largest, largest), min_size=count, max_size=count)
    return numbers.map(lambda quarters: (torch.tensor(quarters, dtype=dtype) / 4).reshape(shape))


def _linear(draw: st.DrawFn, shape: Shape, outputs: int | None = None) -> nn.Module | None:
    if len(shape) != 1:
        return None
    wide = 2 * draw(st.integers(1, 2)) if outputs is None else outputs
    return with_dyadic_weights(draw, nn.Linear(shape[0], wide))


def _minmax(draw: st.DrawFn, shape: Shape) -> nn.Module | None:
    del draw
    return MinMax() if shape[0] % 2 == 0 else None


def _normalisation(draw: st.DrawFn, shape: Shape) -> nn.Module | None:
    mean = draw(dyadic_weights(shape[0]))
    std = draw(st.sampled_from([1.0, 0.5, 2.0]))
    return InputNormalisation(mean.reshape(shape[0], *[1] * (len(shape) - 1)), std)


class Residual(nn.Module):
    """x + inner(x), for an inner part that keeps the shape."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        """The sum; shape unchanged."""
        return inputs + self.inner(inputs)


def _residual(draw: st.DrawFn, shape: Shape) -> nn.Module | None:
    if len(shape) != 1:
        return None
    inner = with_dyadic_weights(draw, nn.Linear(shape[0], shape[0]), largest=4)
    return Residual(nn.Sequential(inner, nn.ReLU()))


def _convolution(draw: st.DrawFn, shape: Shape) -> nn.Module | None:
    if len(shape) != 3:
        return None
    kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    padding = draw(st.integers(kernel // 2, kernel // 2 + 1)) if kernel > 1 else 0
    layer = nn.Conv2d(shape[0], draw(st.integers(1, 2)), kernel, stride, padding)
    return with_dyadic_weights(draw, layer, largest=4)


def _pooling(kind: type[nn.AvgPool2d] | type[nn.MaxPool2d]) -> Maker:
    """Windows of 2, which may overlap; halves and quarters are exact."""

    def make(draw: st.DrawFn, shape: Shape) -> nn.Module | None:
        stride = draw(st.integers(1, 2))
        return kind(2, stride) if len(shape) == 3 and min(shape[1:]) >= 2 else None

    return make


# Every kind that networks() can draw, and how; a layer of your own is added by ``layers=``.
LAYERS: Mapping[type[nn.Module], Maker] = {
    nn.ReLU: lambda draw, shape: nn.ReLU(),
    MinMax: _minmax,
    nn.Linear: _linear,
    nn.Flatten: lambda draw, shape: nn.Flatten(),
    nn.Identity: lambda draw, shape: nn.Identity(),
    InputNormalisation: _normalisation,
    nn.LeakyReLU: lambda draw, shape: nn.LeakyReLU(draw(st.sampled_from([0.5, -1.5]))),
    Abs: lambda draw, shape: Abs(),
    Residual: _residual,
    nn.Conv2d: _convolution,
    nn.AvgPool2d: _pooling(nn.AvgPool2d),
    nn.MaxPool2d: _pooling(nn.MaxPool2d),
}
DENSE: tuple[type[nn.Module], ...] = (nn.ReLU, MinMax, nn.Linear)
IMAGE: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.ReLU, nn.AvgPool2d, nn.MaxPool2d, nn.LeakyReLU)


def with_dyadic_weights(draw: st.DrawFn, layer: nn.Module, *, largest: int = 8) -> nn.Module:
    """The layer with every parameter drawn anew as small dyadic numbers."""
    for parameter in layer.parameters():
        weights: Tensor = draw(dyadic_weights(*parameter.shape, largest=largest))
        with torch.no_grad():
            parameter.copy_(weights)
    return layer


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    features: int | Shape | None = None,
    num_classes: int | None = None,
    max_layers: int = 3,
    layers: Sequence[type[nn.Module]] | Mapping[type[nn.Module], Maker] = DENSE,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Backbones in eval mode, (batch, features) -> (batch, num_classes), with dyadic weights.

    A shrunk example has one layer and as few non-zero weights as the failure needs.

    Args:
        features: size or shape of one input; by default 1 to 3.
        num_classes: by default 3 or 4.
        max_layers: layers before the last Linear one, which is always there.
        layers: the kinds to draw from (keys of :data:`LAYERS`), or a table of kinds of your own
            with functions (draw, shape of one input) -> layer or None.
        dtype: of the weights.
    """
    makers = layers if isinstance(layers, Mapping) else {kind: LAYERS[kind] for kind in layers}
    shape: Shape
    if features is None:
        shape = (draw(st.integers(1, 3)),)
    else:
        shape = (features,) if isinstance(features, int) else tuple(features)
    classes = draw(st.integers(3, 4)) if num_classes is None else num_classes
    chosen: list[nn.Module] = []
    for kind in draw(st.lists(st.sampled_from(list(makers)), max_size=max_layers)):
        layer = makers[kind](draw, shape)
        if layer is not None:
            chosen.append(layer)
            shape = _shape_after(layer, shape)
    if len(shape) > 1:
        chosen.append(nn.Flatten())
    chosen.append(with_dyadic_weights(draw, nn.Linear(prod(shape), classes)))
    return nn.Sequential(*chosen).to(dtype).eval()


def _shape_after(layer: nn.Module, shape: Shape) -> Shape:
    with torch.no_grad():
        return tuple(layer.eval()(torch.zeros(1, *shape)).shape[1:])
