"""What a Lipschitz bound must not be below, in exact or 40-digit arithmetic; no tolerances.

Affine layers: the matrix is formed exactly, as an integer combination of what torch computes for
kernels of one tap. In l2 the float64 singular vector v is taken as the exact numbers that it
holds, and ||A v|| / ||v|| compared over the rationals: a lower bound of the norm whatever v is, and
within the square of v's error of it. Rows and columns are added up exactly.

Piecewise linear layers: ratios of moves between points whose entries are 0 or powers of two, which
these layers compute without rounding. Smooth ones: their largest slope by mpmath.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction

import mpmath
import numpy as np
import torch
from torch import Tensor, nn

from relaxcert.nn import Householder, InputNormalisation, InvertibleDownsampling, Scale
from tests.lipschitz.layer_zoo import ADAPTIVE, BATCH, CONV, MEAN, TRANSPOSED, dense
from tests.networks import generator

Shape = tuple[int, ...]
Numbers = np.ndarray  # of int or Fraction
_CONVOLUTIONS = (*CONV.values(), *TRANSPOSED.values())
_AVERAGES = (*MEAN.values(), *ADAPTIVE.values())
_MOVES = (nn.PixelUnshuffle, InvertibleDownsampling)


def is_below_the_truth(bound: float, layer: nn.Module, shape: Shape, norm: str, seed: int) -> bool:
    """Whether the layer is proved to move further than ``bound`` allows."""
    if math.isinf(bound):
        return False
    limit, kind = Fraction(bound), type(layer)
    if kind in SLOPES:
        return to_mpmath(limit) < SLOPES[kind](layer)
    if kind is Householder:
        return to_mpmath(limit) < largest_reflection(layer, norm)
    if kind in BATCH.values():
        return any(limit**2 * variance < weight**2 for weight, variance in batch_norm(layer))
    if kind is InputNormalisation:
        return any(limit * std < 1 for std in fractions(layer.std))
    matrix = exact_matrix(layer, shape)
    if matrix is not None:
        return norm_exceeds(matrix, limit, norm)
    return any(
        size_exceeds(after, before, limit, norm) for after, before in moves(layer, shape, seed)
    )


def fractions(values: Tensor) -> list[Fraction]:
    return [Fraction(value) for value in values.detach().double().flatten().tolist()]


def exact_matrix(layer: nn.Module, shape: Shape) -> Numbers | None:
    """The matrix of an affine layer, (outputs, inputs), in Fractions; None for other layers."""
    if isinstance(layer, nn.Linear):
        count = math.prod(shape[:-1])
        weight = np.array([fractions(row) for row in layer.weight])
        return np.kron(np.eye(count, dtype=int), weight)
    if isinstance(layer, _CONVOLUTIONS):
        return convolution_matrix(layer, shape)
    if isinstance(layer, Scale):
        return np.eye(math.prod(shape), dtype=int) * Fraction(layer.factor)
    if isinstance(layer, _MOVES):
        return integers(layer, shape)
    if isinstance(layer, _AVERAGES):
        adaptive = isinstance(layer, tuple(ADAPTIVE.values()))
        size = layer.kernel_size if not adaptive else shape[1:]  # only to one average a channel
        taps = math.prod(size)
        return integers(layer, shape, taps) * Fraction(1, taps)
    return None


def integers(layer: nn.Module, shape: Shape, times: int = 1) -> Numbers:
    """A matrix that is one of whole numbers when multiplied by ``times``, which is asked for."""
    found = dense(layer, shape) * times
    rounded = found.round()
    assert bool(((found - rounded).abs() < 1e-9).all())
    return rounded.numpy().astype(int)


def convolution_matrix(layer: nn.Module, shape: Shape) -> Numbers:
    """Sum over the taps of tap times a matrix of 0s and 1s."""
    single = copy.deepcopy(layer)
    single.register_parameter("bias", None)
    total: Numbers = np.full(dense(single, shape).shape, Fraction(0))
    for place, tap in enumerate(fractions(layer.weight)):
        with torch.no_grad():
            single.weight.zero_().view(-1)[place] = 1.0
        ones = integers(single, shape)
        met = ones.nonzero()
        total[met] += ones[met] * tap
    return total


def norm_exceeds(matrix: Numbers, limit: Fraction, norm: str) -> bool:
    """Whether the induced norm is above ``limit``; l2: whether a lower bound of it is."""
    common = math.lcm(*{Fraction(entry).denominator for entry in matrix.ravel()})
    whole, limit = as_integers(matrix, common), limit * common
    if norm != "l2":
        sums = abs(whole).sum(axis=1 if norm == "linf" else 0)
        return bool(max(sums) > limit)
    _, _, vectors = np.linalg.svd(matrix.astype(float), full_matrices=False)
    v = np.array([Fraction(number) for number in vectors[0].tolist()])
    v = as_integers(v, math.lcm(*(entry.denominator for entry in v)))
    moved = whole.dot(v)
    return bool(moved.dot(moved) > limit**2 * v.dot(v))


def as_integers(numbers: Numbers, common: int) -> Numbers:
    """Python integers, which have any length."""
    whole = [int(entry * common) for entry in numbers.ravel()]
    return np.array(whole, dtype=object).reshape(numbers.shape)


def batch_norm(layer: nn.Module) -> Iterator[tuple[Fraction, Fraction]]:
    """(w, var + eps) a channel: the factor is w / sqrt(var + eps)."""
    variances = [value + Fraction(layer.eps) for value in fractions(layer.running_var)]
    weights = [Fraction(1)] * len(variances) if layer.weight is None else fractions(layer.weight)
    return zip(weights, variances, strict=True)


def moves(layer: nn.Module, shape: Shape, seed: int) -> Iterator[tuple[list, list]]:
    """Exact changes of output and input between points of 0 and powers of two."""
    count, chosen = math.prod(shape), generator(seed)
    shifts = torch.randint(-2, 3, (24, count), generator=chosen)
    signs = torch.randint(-1, 2, (24, count), generator=chosen)
    points = signs * torch.exp2(shifts.double())
    units = torch.eye(count, dtype=torch.float64)[torch.randperm(count, generator=chosen)[:16]]
    zeros = torch.zeros_like(units)
    starts, ends = torch.cat([points[:12], zeros]), torch.cat([points[12:], units])
    # All along one sign, too: the slopes on either side, one at a time.
    starts, ends = torch.cat([starts, zeros]), torch.cat([ends, -units])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = (layer(x.reshape(-1, *shape)).flatten(1) for x in (starts, ends))
    for f, g, x, y in zip(before, after, starts, ends, strict=True):
        changed = [b - a for a, b in zip(fractions(f), fractions(g), strict=True)]
        moved = [b - a for a, b in zip(fractions(x), fractions(y), strict=True)]
        yield changed, moved


def size_exceeds(after: list[Fraction], before: list[Fraction], limit: Fraction, norm: str) -> bool:
    """Whether ||after|| > limit ||before||."""
    if norm == "l2":
        return sum(v * v for v in after) > limit**2 * sum(v * v for v in before)
    join = max if norm == "linf" else sum
    return join([abs(v) for v in after]) > limit * join([abs(v) for v in before])


def to_mpmath(value: Fraction) -> mpmath.mpf:
    with mpmath.workdps(60):
        return mpmath.mpf(value.numerator) / value.denominator


def steepest(function: Callable[[mpmath.mpf], mpmath.mpf], near: float) -> mpmath.mpf:
    """The slope at its maximum next to ``near``, 40 digits; a hair below, never above it."""
    with mpmath.workdps(60):
        at = mpmath.findroot(lambda x: mpmath.diff(function, x, 2), near)
        return mpmath.diff(function, at) * (1 - mpmath.mpf(10) ** -35)


def _gelu_tanh(x: mpmath.mpf) -> mpmath.mpf:
    inner = mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf(0.044715) * x**3)
    return x / 2 * (1 + mpmath.tanh(inner))


SILU = steepest(lambda x: x / (1 + mpmath.exp(-x)), 2.4)
GELU = steepest(lambda x: x * mpmath.ncdf(x), 1.41)
GELU_TANH = steepest(_gelu_tanh, 1.41)


def _leaky(layer: nn.Module) -> mpmath.mpf:
    return to_mpmath(max(Fraction(1), abs(Fraction(layer.negative_slope))))


SLOPES: dict[type[nn.Module], Callable[[nn.Module], mpmath.mpf]] = {
    nn.Tanh: lambda layer: mpmath.mpf(1),
    nn.Sigmoid: lambda layer: mpmath.mpf(1) / 4,
    nn.SiLU: lambda layer: SILU,
    nn.GELU: lambda layer: GELU if layer.approximate == "none" else GELU_TANH,
    nn.Softplus: lambda layer: mpmath.mpf(1),  # the limit of the slopes
    nn.LeakyReLU: _leaky,
    nn.Softsign: lambda layer: mpmath.mpf(1),
    nn.ELU: lambda layer: to_mpmath(max(Fraction(1), abs(Fraction(layer.alpha)))),  # at 0
}


def largest_reflection(layer: Householder, norm: str) -> mpmath.mpf:
    """l1 and linf: |cos t| + |sin t| of the reflection of a pair; l2: 1."""
    if norm == "l2":
        return mpmath.mpf(1)
    with mpmath.workdps(40):
        angles = [to_mpmath(angle) for angle in fractions(layer.angles)]
        sums = [abs(mpmath.cos(t)) + abs(mpmath.sin(t)) for t in angles]
        return max(sums) * (1 - mpmath.mpf(10) ** -35)
