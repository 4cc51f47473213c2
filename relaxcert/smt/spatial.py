"""Encoders of layers with a spatial structure: convolutions, pooling, padding, BatchNorm.

A linear layer is unrolled by running it in float64 on the unit vectors. That is exact where each
entry of the matrix is one stored number: a product with 1 and sums with 0 round nothing. It is
checked, so that padding which adds weights up is refused rather than rounded.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from relaxcert.errors import InvalidWeights, UnsupportedLayer
from relaxcert.smt.affine import Affine, integers_of
from relaxcert.smt.encoders import (
    Gate,
    Nearly,
    Shape,
    Step,
    count,
    diagonal,
    encodes,
    flat_fractions,
    maxima,
)

ROOT_BITS = 128  # of an irrational scale: far beyond what float64 bounds can tell apart


@encodes(
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
def convolution(layer: nn.Conv2d, shape: Shape) -> Iterator[Step]:
    """The weights at their places, and the bias at every place of its channel."""
    bias: Tensor | None = getattr(layer, "bias", None)
    linear = copy.deepcopy(layer)
    linear.bias = None
    matrix, out = _on_unit_vectors(linear, shape)
    stored = torch.cat([layer.weight.detach().flatten(), torch.zeros(1, dtype=torch.float64)])
    if not bool(torch.isin(torch.from_numpy(matrix), stored).all()):
        raise UnsupportedLayer(
            f"{type(layer).__name__} with padding_mode={layer.padding_mode!r} adds several weights "
            "up at one input, which is not unrolled exactly: use zero padding."
        )
    per_channel = count(out[1:])
    offset = None if bias is None else bias.detach().numpy().repeat(per_channel)
    yield Affine.of(matrix, offset)


@encodes(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)
def padding(layer: nn.Module, shape: Shape) -> Iterator[Step]:
    """Numbers in other places, and zeros."""
    yield Affine.of(_on_unit_vectors(layer, shape)[0])


@encodes(
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
)
def average(layer: nn.Module, shape: Shape) -> Iterator[Step]:
    """1/d for each input of a window, d read off: the layer gives the float64 nearest to 1/d."""
    matrix = _on_unit_vectors(layer, shape)[0]
    divisors = np.rint(1.0 / np.where(matrix == 0, 1.0, matrix))
    if not bool((np.where(matrix == 0, 1.0, 1.0 / divisors) == np.where(
        matrix == 0, 1.0, matrix
    )).all()):  # fmt: skip
        raise UnsupportedLayer(
            f"{layer} does not divide by whole numbers, so it has no exact encoding here."
        )
    common = math.lcm(*(int(d) for d in np.unique(divisors)))
    whole = np.where(matrix == 0, 0.0, common / divisors)
    numerators, denominator = integers_of(whole)
    yield Affine(numerators, numerators[:, 0] * 0, denominator * common).reduced()


@encodes(
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)
def maximum(layer: nn.Module, shape: Shape) -> Iterator[Step]:
    """The largest number of each window; a unit vector shows in the windows that hold its place."""
    held = _on_unit_vectors(layer, shape)[0] > 0
    yield from maxima([np.nonzero(row)[0].tolist() for row in held], count(shape))


@encodes(nn.PReLU)
def prelu(layer: nn.PReLU, shape: Shape) -> Iterator[Step]:
    """a z + (1 - a) max(z, 0), one slope for all or one for each channel."""
    slopes = flat_fractions(layer.weight)
    repeated = count(shape) // len(slopes)
    each = [slope for slope in slopes for _ in range(repeated)]
    nothing = [Fraction(0)] * len(each)
    yield Gate(
        Affine.identity(len(each)),
        diagonal(each, nothing),
        diagonal([1 - slope for slope in each], nothing),
    )


@encodes(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def batch_norm(layer: nn.BatchNorm2d, shape: Shape) -> Iterator[Step]:
    """weight (v - mean) / sqrt(variance + eps) + bias, as a function of real numbers.

    The factor is exact where the root is a rational number, else it is enclosed.
    """
    if layer.running_mean is None or layer.running_var is None:
        raise UnsupportedLayer(f"{layer} keeps no statistics: its function depends on the batch.")
    repeated = count(shape[1:])

    def everywhere(values: Tensor | list[Fraction]) -> list[Fraction]:
        exact = flat_fractions(values) if isinstance(values, Tensor) else values
        return [value for value in exact for _ in range(repeated)]

    squares = [variance + Fraction(layer.eps) for variance in flat_fractions(layer.running_var)]
    if min(squares) <= 0:
        raise InvalidWeights(
            f"running_var of {layer} plus eps is not positive: its root is no scale."
        )
    inverse = [inverse_root(square) for square in squares]
    ones, zeros = [Fraction(1)] * len(squares), [Fraction(0)] * len(squares)
    weights = flat_fractions(layer.weight) if layer.affine else ones
    factors = [weight * near for weight, (near, _) in zip(weights, inverse, strict=True)]
    doubt = [abs(weight) * off for weight, (_, off) in zip(weights, inverse, strict=True)]
    nearly = Nearly(
        everywhere(factors),
        everywhere(doubt),
        everywhere(layer.running_mean),
        everywhere(layer.bias if layer.affine else zeros),
    )
    if any(doubt):
        yield nearly
        return
    moved = zip(nearly.centre, nearly.factors, nearly.offset, strict=True)
    yield diagonal(nearly.factors, [bias - mean * factor for mean, factor, bias in moved])


def inverse_root(square: Fraction) -> tuple[Fraction, Fraction]:
    """A rational next to 1/sqrt(square), and a bound of its distance: 0 if it is exact.

    With 1/square = n/d, the integer root r of floor(4^k n/d) has

        r / 2^k  <=  1/sqrt(square)  <  (r + 1) / 2^k.
    """
    inverse = 1 / square
    root = Fraction(math.isqrt(inverse.numerator), math.isqrt(inverse.denominator))
    if root * root == inverse:
        return root, Fraction(0)
    size = inverse.numerator.bit_length() - inverse.denominator.bit_length()
    shift = max(0, ROOT_BITS - size // 2)
    below = math.isqrt((inverse.numerator << 2 * shift) // inverse.denominator)
    return Fraction(below, 1 << shift), Fraction(1, 1 << shift)


def _on_unit_vectors(layer: nn.Module, shape: Shape) -> tuple[NDArray[np.float64], Shape]:
    """The layer's values on all unit vectors as a matrix (outputs, inputs), and their shape."""
    size = count(shape)
    with torch.no_grad():
        values = cast("Tensor", cast("Any", layer)(torch.eye(size).double().reshape(size, *shape)))
    return values.reshape(size, -1).T.contiguous().numpy(), tuple(values.shape[1:])
