"""Rounding in a known direction, and the constants of rounding-error analysis.

Two ways are used. Scalars of the bounds are rounded up after every operation with ``nextafter``.
Batched error terms, all of them sums and products of non-negative numbers, are computed plainly and
then multiplied by INFLATE, which exceeds the rounding of any thousand operations.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from relaxcert.errors import UnsupportedPrecision

UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24}  # u: half the distance from 1 to next
ETA = {torch.float64: 2.0**-1074, torch.float32: 2.0**-149}  # smallest positive number
INFLATE = 1.0 + 2.0**-40
# Absolute cover for every underflow inside a computation whose data were scaled to about 1: such
# errors are below (number of operations) * 2^-537, and no tensor has 2^100 elements.
UNDERFLOW = 2.0**-400
_SUMMED = 2**18  # numbers whose float32 sum is still good enough
_VANISHED = {torch.float64: UNDERFLOW, torch.float32: 2.0**-60}


def unit_of(dtype: torch.dtype) -> float:
    """The unit roundoff of ``dtype``, or UnsupportedPrecision if no bounds are kept for it."""
    if dtype not in UNIT:
        raise UnsupportedPrecision(
            f"dtype {dtype} has no rounding analysis here: certificates are given for networks "
            "whose weights are float32 or float64; cast with .float() or .double()."
        )
    return UNIT[dtype]


def gamma(operations: int, unit: float) -> float:
    """gamma_k = k u / (1 - k u), rounded up (Higham 2002, section 3.1); inf where k u >= 1/2."""
    product = operations * unit
    if product >= 0.5:
        return math.inf
    return product / (1.0 - product) * INFLATE


def up(value: float) -> float:
    """The next float64 above: makes the result of one rounded operation an upper bound."""
    return math.nextafter(value, math.inf)


def add_up(*terms: float) -> float:
    """An upper bound of the sum of non-negative terms."""
    total = 0.0
    for term in terms:
        total = up(total + term) if term != 0.0 else total
    return total


def multiply_up(*factors: float) -> float:
    """An upper bound of the product of non-negative factors; 0 only if a factor is 0."""
    total = 1.0
    for factor in factors:
        if factor == 0.0:
            return 0.0
        total = factor if total == 1.0 else (total if factor == 1.0 else up(total * factor))
    return total


def fraction_up(value: Fraction) -> float:
    """The smallest float64 at or above an exact number; inf if there is none."""
    try:
        nearest = float(value)
    except OverflowError:
        return math.inf
    return nearest if Fraction(nearest) >= value else up(nearest)


def fraction_down(value: Fraction) -> float:
    """The largest float64 at or below a non-negative exact number."""
    above = fraction_up(value)
    return above if above != math.inf and Fraction(above) == value else math.nextafter(above, 0.0)


def tensor_up(value: Tensor) -> Tensor:
    """Elementwise :func:`up`, in the tensor's own dtype."""
    return torch.nextafter(value, torch.full_like(value, math.inf))


def tensor_down(value: Tensor) -> Tensor:
    """The next number below, elementwise, in the tensor's own dtype."""
    return torch.nextafter(value, torch.full_like(value, -math.inf))


def scaled_to_one(matrix: Tensor) -> tuple[Tensor, int]:
    """Return (matrix * 2^-e, e) with the largest entry in [1/2, 1); exact but for underflow.

    Without it, squares of weights such as 1e-200 vanish and a bound of 0 comes out.
    """
    _, exponent = math.frexp(float(matrix.abs().max()))
    return times_power_of_two(matrix, -exponent), exponent


def times_power_of_two(value: Tensor, exponent: int) -> Tensor:
    """``value * 2^exponent`` in two steps, so that the factor itself never overflows."""
    half = exponent // 2
    return value * math.ldexp(1.0, half) * math.ldexp(1.0, exponent - half)


def ldexp_up(value: float, exponent: int) -> float:
    """An upper bound of ``value * 2^exponent``; inf on overflow, never 0 for a positive value."""
    try:
        result = math.ldexp(value, exponent)
    except OverflowError:
        return math.inf
    return result if math.ldexp(result, -exponent) == value else up(result)


def norm_up(value: Tensor, ord: float) -> Tensor:  # noqa: A002 - torch's own name for it
    """Upper bound of the vector norm of each row; (batch, ...) -> (batch,) in float64.

    On the CPU, float32 rows of up to 2^18 numbers are summed in float32, as a conversion takes
    several times as long as the sum (compiled code and GPUs convert on the way). The relative error
    stays below 2^-6, and only allowances for rounding grow by it. Where squares overflow: float64.
    """
    flat = value.flatten(1)
    if ord == math.inf:
        return torch.maximum(flat.amax(1), -flat.amin(1)).double()
    count = flat.shape[1]
    kept = torch.float32 if count <= _SUMMED and in_float32(value) else torch.float64
    norm = torch.linalg.vector_norm(flat, ord, dim=1, dtype=kept).double()
    if kept == torch.float32 and not bool((norm < math.inf).all()):
        kept = torch.float64
        norm = torch.linalg.vector_norm(flat, ord, dim=1, dtype=kept)
    # Squares below the smallest number vanish: n of them amount to at most sqrt(n eta).
    return norm * (INFLATE + gamma(count + 4, UNIT[kept])) + _VANISHED[kept]


def norm_surplus(count: int, order: float, dtype: torch.dtype) -> tuple[float, float]:
    """(factor, term) with norm_up(v) <= factor ||v|| + term for v of ``count`` numbers of dtype."""
    if order == math.inf:
        return 1.0, 0.0
    kept = raw_norm_dtype(count, dtype)
    relative = gamma(count + 4, UNIT[kept])
    return (1.0 + relative) * (INFLATE + relative) * INFLATE, _VANISHED[kept] * INFLATE


def raw_norm_dtype(count: int, dtype: torch.dtype) -> torch.dtype:
    """In which dtype the norm of ``count`` numbers is computed: float32 only for not too many."""
    return torch.float32 if dtype == torch.float32 and count <= _SUMMED else torch.float64


def in_float32(values: Tensor) -> bool:
    """Whether sums of these values had better be made in float32: see :func:`norm_up`."""
    plain = values.dtype == torch.float32 and values.device.type == "cpu"
    return plain and not torch.compiler.is_compiling()


def finite_rows(values: Tensor) -> Tensor:
    """Whether all numbers of a row are finite; (batch, ...) -> (batch,) bool, without a copy."""
    flat = values.flatten(1)
    return (flat.amax(1) < math.inf) & (flat.amin(1) > -math.inf)
