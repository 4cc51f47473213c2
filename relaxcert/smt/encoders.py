"""Encoders: what each kind of layer is, exactly, as affine maps and gates.

An encoder takes a layer (float64, on the CPU, in eval mode) and the shape of one input, and yields
steps on the flattened values. ``@encodes(MyLayer)`` registers one for a layer of the user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.nn.elementwise import Abs, Diagonal
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.nn.rearrange import Rearrange
from relaxcert.nn.shapes import GroupSort, InvertibleDownsampling, Part, Permute, Reshape, Scale
from relaxcert.smt.affine import Affine, stacked

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gate:
    """v -> skip(v) + gain(max(pre(v), 0))."""

    pre: Affine
    skip: Affine
    gain: Affine


@dataclass(frozen=True, slots=True)
class Nearly:
    """v -> factors * (v - centre) + offset, elementwise, with factors known nearly.

    Attributes:
        factors: rational numbers next to the true ones; (size,).
        doubt: each true factor is within this of the stated one; not negative.
        centre, offset: exact; (size,).
    """

    factors: Sequence[Fraction]
    doubt: Sequence[Fraction]
    centre: Sequence[Fraction]
    offset: Sequence[Fraction]


Step = Affine | Gate | Nearly
Encoder = Callable[[Any, Shape], Iterable[Step]]
_ENCODERS: dict[type[nn.Module], Encoder] = {}
_SMOOTH = (nn.Sigmoid, nn.Tanh, nn.Softplus, nn.GELU, nn.SiLU, nn.ELU, nn.Softmax, nn.Mish)


def encodes(*kinds: type[nn.Module]) -> Callable[[Encoder], Encoder]:
    """Register an encoder for exactly these kinds of layer (never for subclasses)."""

    def register(encoder: Encoder) -> Encoder:
        _ENCODERS.update(dict.fromkeys(kinds, encoder))
        return encoder

    return register


def encoder_for(layer: nn.Module, path: str) -> Encoder:
    """The encoder of a layer.

    Raises:
        UnsupportedLayer: there is none; says whether there can be one.
    """
    found = _ENCODERS.get(type(layer))
    if found is not None:
        return found
    kind = type(layer).__name__
    refuse_smooth(layer, path)
    known = ", ".join(sorted(kind.__name__ for kind in _ENCODERS))
    raise UnsupportedLayer(
        f"backbone.{path} is a {kind}, for which there is no exact encoding: use one of {known}, "
        f"or register one: @relaxcert.smt.encodes({kind})."
    )


def refuse_smooth(layer: nn.Module, path: str) -> None:
    """Raise UnsupportedLayer for a smooth activation, with the reason."""
    if type(layer) in _SMOOTH:
        raise UnsupportedLayer(
            f"backbone.{path} is a {type(layer).__name__}, a smooth function that is not "
            "piecewise linear: it has no exact encoding over the rationals, so a solver of linear "
            "arithmetic cannot judge it. Cross-check a network with ReLU, MinMax or another "
            "piecewise-linear activation."
        )


def count(shape: Shape) -> int:
    """How many numbers a value of this shape holds."""
    return int(np.prod(shape, dtype=np.int64))


def places(shape: Shape) -> Tensor:
    """The place of every number in the flattened value, as a batch of one point."""
    return torch.arange(count(shape), dtype=torch.float64).reshape(1, *shape)


def flat_places(moved: Tensor) -> list[int]:
    """Places as a flat list of integers."""
    return cast("list[int]", moved.flatten().long().tolist())


@encodes(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
def unchanged(layer: nn.Module, shape: Shape) -> Iterator[Step]:
    """Nothing (dropout in eval mode)."""
    return iter(())


@encodes(
    nn.Flatten,
    nn.Unflatten,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
    Reshape,
    Permute,
    Part,
    InvertibleDownsampling,
    Rearrange,
)
def moved(layer: nn.Module, shape: Shape) -> Iterator[Step]:
    """Numbers in other places: the layer itself tells where, on the numbers of the places."""
    yield Affine.selection(flat_places(layer(places(shape))), count(shape))


@encodes(nn.Linear)
def linear(layer: nn.Linear, shape: Shape) -> Iterator[Step]:
    """W h + b along the last dimension."""
    bias: Tensor | None = getattr(layer, "bias", None)
    one = Affine.of(_array(layer.weight), None if bias is None else _array(bias))
    repeated = count(shape[:-1])
    if repeated == 1:
        yield one
        return
    matrix = np.kron(np.full(1, 1, dtype=object) * np.eye(repeated, dtype=int), one.matrix)
    yield Affine(matrix, np.tile(one.offset, repeated), one.denominator)


@encodes(Scale)
def scale(layer: Scale, shape: Shape) -> Iterator[Step]:
    """factor * v."""
    yield Affine.identity(count(shape)).scaled(Fraction(layer.factor))


@encodes(InputNormalisation)
def normalisation(layer: InputNormalisation, shape: Shape) -> Iterator[Step]:
    """(v - mean) / std with the stored mean and std; the quotient is exact."""
    mean = flat_fractions(layer.mean.expand(shape))
    std = flat_fractions(layer.std.expand(shape))
    yield diagonal([1 / s for s in std], [-m / s for m, s in zip(mean, std, strict=True)])


@encodes(nn.ReLU)
def relu(layer: nn.ReLU, shape: Shape) -> Iterator[Step]:
    """max(z, 0)."""
    size = count(shape)
    yield Gate(Affine.identity(size), Affine.zero(size, size), Affine.identity(size))


@encodes(nn.ReLU6)
def relu6(layer: nn.ReLU6, shape: Shape) -> Iterator[Step]:
    """max(z, 0) - max(z - 6, 0)."""
    size = count(shape)
    same = Affine.identity(size)
    above = Affine(same.matrix, same.offset - 6)
    gain = np.concatenate([same.matrix, -same.matrix], axis=1)
    yield Gate(stacked([same, above]), Affine.zero(size, size), Affine(gain, same.offset))


@encodes(Abs)
def absolute(layer: Abs, shape: Shape) -> Iterator[Step]:
    """2 max(z, 0) - z."""
    same = Affine.identity(count(shape))
    yield Gate(same, same.scaled(-1), same.scaled(2))


@encodes(Diagonal)
def diagonal_layer(layer: Diagonal, shape: Shape) -> Iterator[Step]:
    """factors * v, broadcast against one input."""
    factors = flat_fractions(layer.factors.expand(shape))
    yield diagonal(factors, [Fraction(0)] * len(factors))


@encodes(nn.LeakyReLU)
def leaky_relu(layer: nn.LeakyReLU, shape: Shape) -> Iterator[Step]:
    """a z + (1 - a) max(z, 0)."""
    size, slope = count(shape), Fraction(layer.negative_slope)
    same = Affine.identity(size)
    yield Gate(same, same.scaled(slope), same.scaled(1 - slope))


@encodes(MinMax)
def min_max(layer: MinMax, shape: Shape) -> Iterator[Step]:
    """Pairs along dimension 1 (the first of one point), smaller first."""
    pairs = places(shape).unflatten(1, (shape[0] // 2, 2))
    yield sort_pairs(flat_places(pairs[:, :, 0]), flat_places(pairs[:, :, 1]), count(shape))


@encodes(GroupSort)
def group_sort(layer: GroupSort, shape: Shape) -> Iterator[Step]:
    """Odd-even transposition: ``size`` rounds of sorted neighbours sort each group."""
    groups = places(shape).unflatten(1, (shape[0] // layer.size, layer.size))
    for step in range(layer.size):
        left = groups[:, :, step % 2 : layer.size - 1 : 2]
        right = groups[:, :, step % 2 + 1 : layer.size : 2]
        if left.numel():
            yield sort_pairs(flat_places(left), flat_places(right), count(shape))


def sort_pairs(left: Sequence[int], right: Sequence[int], size: int) -> Gate:
    """(a, b) -> (min, max) at these places: r = relu(a - b), min = a - r, max = b + r."""
    pre = Affine.selection(left, size) + Affine.selection(right, size).scaled(-1)
    gain = Affine.zero(size, len(left)).matrix.copy()
    gain[list(left), np.arange(len(left))] = -1
    gain[list(right), np.arange(len(left))] = 1
    return Gate(pre, Affine.identity(size), Affine(gain, Affine.zero(size, 1).offset))


def maxima(windows: Sequence[Sequence[int]], size: int) -> Iterator[Step]:
    """The largest number of each window (places, at least one each), by a tree of maxima."""
    width = max(len(window) for window in windows)
    # A place that is repeated changes no maximum.
    padded = np.array([[*w, *[w[0]] * (width - len(w))] for w in windows])
    yield Affine.selection(padded.T.ravel().tolist(), size)  # by rank in the window
    rows = len(windows)
    while width > 1:
        half, odd = divmod(width, 2)
        total = rows * width
        first = Affine.selection(range(half * rows), total)
        second = Affine.selection(range(half * rows, 2 * half * rows), total)
        pre = first + second.scaled(-1)
        # max(a, b) = b + relu(a - b); the odd one out passes.
        skip = Affine.selection(range(half * rows, total), total)
        gain = Affine.selection(range(half * rows), half * rows).matrix
        gain = np.concatenate([gain, np.full((odd * rows, half * rows), 0, dtype=object)])
        yield Gate(pre, skip, Affine(gain, Affine.zero(len(gain), 1).offset))
        width = half + odd


def diagonal(factors: Sequence[Fraction], offset: Sequence[Fraction]) -> Affine:
    """v -> factors * v + offset, elementwise."""
    common = Affine.from_fractions([list(factors)], list(offset))
    matrix = Affine.zero(len(factors), len(factors)).matrix.copy()
    matrix[np.arange(len(factors)), np.arange(len(factors))] = common.matrix[0]
    return Affine(matrix, common.offset, common.denominator).reduced()


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().double().numpy()


def flat_fractions(tensor: Tensor) -> list[Fraction]:
    """The exact values of a tensor, flattened."""
    return [Fraction(value) for value in tensor.detach().double().flatten().tolist()]
