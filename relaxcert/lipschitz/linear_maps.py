"""Linear maps that can be multiplied and added, with a bound on the rounding of doing so.

Three kinds: a factor a channel, a convolution, a dense matrix. Each holds numbers in float64 and,
if these were computed, ``error`` >= |true - stored| elementwise, which every norm adds. Products
and sums that stay of one kind are formed; small maps are turned into matrices; else there is None,
and the caller keeps the product of the bounds.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relaxcert.errors import InvalidInput
from relaxcert.lipschitz.convolution import folded_residual
from relaxcert.lipschitz.convolution_map import Convolution
from relaxcert.lipschitz.directed import UNIT, add_up, gamma, up
from relaxcert.lipschitz.matrix import absolute_norm, checked_matrix, induced_norm
from relaxcert.lipschitz.rules_convolution import bound_of
from relaxcert.spec.ball import Norm

Shape = tuple[int, ...]
MOST_DENSE = 2**20  # numbers of a matrix: 8 MiB
_LONGEST = 2**11  # side of a matrix; its square is held while a convolution is written out
_MOST_PRODUCTS = 2**33  # of two matrices: seconds
_U = UNIT[torch.float64]
_TINY = 2.0**-1074
_SLACK = 1.0 + 2.0**-48  # over a dozen operations on non-negative numbers


@dataclass(frozen=True, eq=False, slots=True)
class Factors:
    """factor[c] * x[c, ...]; one number stands for all channels."""

    factors: Tensor
    error: Tensor | None = None

    @property
    def identity(self) -> float | None:
        """The factor, if it is one exact number."""
        return float(self.factors) if self.factors.numel() == 1 and self.error is None else None


@dataclass(frozen=True, eq=False, slots=True)
class Dense:
    """matrix @ x on flattened points, (outputs, inputs)."""

    matrix: Tensor
    error: Tensor | None = None


LinearMap = Factors | Convolution | Dense
IDENTITY = Factors(torch.ones(1, dtype=torch.float64))


def norm_of(found: LinearMap, norm: Norm, *, tight: bool) -> float:
    """Upper bound of the induced norm."""
    if isinstance(found, Convolution):
        return bound_of(found, norm, tight=tight).value
    if isinstance(found, Factors):
        size = found.factors.abs()
        return float((size if found.error is None else (size + found.error) * _SLACK).max())
    missed = 0.0 if found.error is None else absolute_norm(found.error, norm)
    return add_up(induced_norm(found.matrix, norm), missed)


def product(
    after: LinearMap, before: LinearMap, shapes: tuple[Shape, Shape, Shape]
) -> LinearMap | None:
    """after o before; ``shapes`` are those of the input, between the two, and of the output."""
    if isinstance(before, Factors) and before.identity == 1.0:
        return after
    if isinstance(after, Factors) and after.identity == 1.0:
        return before
    if isinstance(after, Factors) and isinstance(before, Factors):
        return Factors(*_times(after.factors, after.error, before.factors, before.error))
    if isinstance(after, Factors) and isinstance(before, Convolution):
        return _scaled(before, after, outputs=True)
    if isinstance(after, Convolution) and isinstance(before, Factors):
        return _scaled(after, before, outputs=False)
    left, right = as_dense(after, shapes[1], shapes[2]), as_dense(before, shapes[0], shapes[1])
    if left is None or right is None:
        return None
    work = left.matrix.numel() * right.matrix.shape[1]
    return _matrix_product(left, right) if work <= _MOST_PRODUCTS else None


def total(
    left: LinearMap, right: LinearMap, sign: int, shapes: tuple[Shape, Shape]
) -> LinearMap | None:
    """left + sign * right; ``shapes`` are those of input and output."""
    for conv, other, scales in ((left, right, (1.0, sign)), (right, left, (float(sign), 1))):
        if isinstance(conv, Convolution) and isinstance(other, Factors):
            if other.identity is None:
                break
            try:
                return folded_residual(conv, other.identity * scales[1], scales[0])
            except InvalidInput:
                break
    if isinstance(left, Factors) and isinstance(right, Factors):
        numbers = left.factors + sign * right.factors
        return Factors(numbers, _sum(_rounded(numbers), left.error, right.error))
    one, other = as_dense(left, *shapes), as_dense(right, *shapes)
    if one is None or other is None:
        return None
    numbers = one.matrix + sign * other.matrix
    return Dense(numbers, _sum(_rounded(numbers), one.error, other.error))


def as_dense(found: LinearMap, inputs: Shape, outputs: Shape) -> Dense | None:
    """The matrix of a small map; None for a large one."""
    columns, rows = math.prod(inputs), math.prod(outputs)
    if isinstance(found, Dense):
        return found
    if rows * columns > MOST_DENSE or max(rows, columns) > _LONGEST:
        return None
    if isinstance(found, Factors):
        count = math.prod(inputs[1:])
        factors = found.factors.expand(inputs[0]).repeat_interleave(count)
        error = found.error
        spread = None if error is None else error.expand(inputs[0]).repeat_interleave(count).diag()
        return Dense(factors.diag(), spread)
    matrix = _matrix_of(found, found.weight)
    # Taps that meet in one entry (circular padding) are added with rounding.
    missed = _matrix_of(found, found.weight.abs()) * gamma(found.weight[0, 0].numel() + 1, _U)
    kernel = None if found.error is None else _matrix_of(found, found.error) * _SLACK
    wraps = any(found.wraps(dim) for dim in range(len(found.stride)))
    return Dense(matrix, _sum(missed if wraps else None, kernel))


def _matrix_of(conv: Convolution, weight: Tensor) -> Tensor:
    """By the convolution of all unit vectors: products by 0 and 1, exact."""
    channels, dims = weight.shape[1] * conv.groups, len(conv.input_size)
    count = channels * math.prod(conv.input_size)
    basis = torch.eye(count, dtype=torch.float64).reshape(count, channels, *conv.input_size)
    pads = [side for pad in reversed(conv.padding) for side in pad]
    mode = "circular" if conv.circular and any(pads) else "constant"
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dims]
    values = function(
        F.pad(basis, pads, mode=mode),
        weight,
        stride=conv.stride,
        dilation=conv.dilation,
        groups=conv.groups,
    ).flatten(1)
    return values if conv.transposed else values.T.contiguous()


def _scaled(conv: Convolution, by: Factors, *, outputs: bool) -> Convolution:
    """The kernel with its outputs (or inputs) multiplied."""
    first, second = conv.weight.shape[:2]
    # Inputs are numbered through the groups: input i of output o is that of o's group.
    shape = (first, 1) if outputs != conv.transposed else (conv.groups, second)
    spread = [
        None
        if values is None
        else values.expand(math.prod(shape))
        .reshape(shape)
        .repeat_interleave(first // shape[0], 0)[(..., *[None] * len(conv.kernel_size))]
        for values in (by.factors, by.error)
    ]
    factors, error = spread
    if factors is None:
        return conv
    weight, missed = _times(conv.weight, conv.error, factors, error)
    checked_matrix(weight, "weight of a folded convolution")
    return dataclasses.replace(conv, weight=weight, error=missed)


def _times(
    a: Tensor, a_error: Tensor | None, b: Tensor, b_error: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Elementwise product: |error| <= u |fl(a b)| + eta + |a| e_b + e_a |b| + e_a e_b."""
    numbers = a * b
    error = _rounded(numbers)
    if b_error is not None:
        error = error + a.abs() * b_error
    if a_error is not None:
        error = error + a_error * b.abs()
    if a_error is not None and b_error is not None:
        error = error + a_error * b_error
    return numbers, (error * _SLACK + 4 * _TINY).expand_as(numbers)


def _matrix_product(left: Dense, right: Dense) -> Dense:
    """|error| <= gamma_K |A| |B| + |A| E_B + E_A |B| + E_A E_B + K eta."""
    inner = left.matrix.shape[1]
    numbers = left.matrix @ right.matrix
    a, b = left.matrix.abs(), right.matrix.abs()
    error = (a @ b) * gamma(inner, _U)
    if right.error is not None:
        error = error + a @ right.error
    if left.error is not None:
        error = error + left.error @ (b if right.error is None else (b + right.error) * _SLACK)
    checked_matrix(numbers, "product of two layers")
    return Dense(numbers, error * up(1.0 + gamma(inner + 16, _U)) + (4 * inner + 8) * _TINY)


def _rounded(numbers: Tensor) -> Tensor:
    """Twice the rounding error of one operation."""
    return numbers.abs() * (2.0 * _U) + _TINY


def _sum(*errors: Tensor | None) -> Tensor | None:
    known = [error for error in errors if error is not None]
    if not known:
        return None
    result = known[0]
    for error in known[1:]:
        result = result + error
    return result * _SLACK + _TINY


def scalar(value: float) -> Factors:
    """One factor for all numbers."""
    return Factors(torch.tensor([value], dtype=torch.float64))


def is_moving(layer: nn.Module) -> bool:
    """Whether the layer keeps the order of the flattened numbers, and the numbers."""
    return isinstance(layer, nn.Flatten | nn.Identity | nn.Dropout)
