"""How far the rational network is from the true one, where a scale has no rational value.

BatchNorm multiplies by w / sqrt(variance + eps), which is irrational nearly always. The chain holds
a rational number next to it, and its stage says how near (:class:`relaxcert.smt.network.Doubt`).
With h, z, r the true values, h~, z~, r~ the chain's, H >= |h~| and e >= |h - h~|, entry by entry:

    |z - z~|  <=  |pre| e
    |r - r~|  <=  |z - z~|, and 0 where z~ + |z - z~| < 0, since both are off there
    |h' - h~'| <=  |skip| e  +  doubt (H + e) + doubt offset  +  |gain| |r - r~|

So every true logit lies within a known distance of the chain's, on a whole region or at one point.
A proof has to hold for the violation moved outward by that distance, a witness for the violation
moved inward: in both cases what is claimed holds for the true network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from relaxcert.smt.affine import Affine, Point
from relaxcert.smt.network import Exact, ExactNetwork

Floats = NDArray[np.float64]
_INFLATE = 1.0 + 2.0**-20  # exceeds the rounding of sums of fewer than 2^30 non-negative numbers
_TINY = 1e-280  # exceeds all underflow


@dataclass(frozen=True, slots=True)
class Enclosed:
    """The logits at a point: each true one is within ``doubt`` of the value; exact numbers."""

    values: Exact
    doubt: Exact

    def undecided(self) -> tuple[int, int] | None:
        """Two classes whose order is not known, if there are such; equal values are a tie."""
        if not any(self.doubt):
            return None
        for i, j in combinations(range(len(self.values)), 2):
            if abs(self.values[i] - self.values[j]) <= self.doubt[i] + self.doubt[j]:
                return i, j
        return None


def logits_at(network: ExactNetwork, point: Sequence[Fraction]) -> Enclosed | None:
    """The logits at one exact point; None where float64 has no bound of the distance."""
    run = network.run(point)
    if not network.has_doubt:
        return Enclosed(run.logits, (Fraction(0),) * network.classes)
    doubt = _deviation(network, _magnitudes(Point.of(point)), run.pre)
    return None if doubt is None else Enclosed(run.logits, doubt)


def deviation_over(
    network: ExactNetwork, lower: Sequence[Fraction], upper: Sequence[Fraction]
) -> Exact | None:
    """For each logit a bound of its distance from the true one on a box; None where there is none.

    Args:
        network: the chain.
        lower, upper: corners of the box, (inputs,) each.
    """
    if not network.has_doubt:
        return (Fraction(0),) * network.classes
    sizes = [max(abs(low), abs(high)) for low, high in zip(lower, upper, strict=True)]
    return _deviation(network, _magnitudes(Point.of(sizes)), None)


def _deviation(
    network: ExactNetwork, size: Floats, pre: Sequence[Point] | None
) -> tuple[Fraction, ...] | None:
    """The recursion above; ``pre`` are the chain's z at the one point, if it is one."""
    error = np.zeros_like(size)
    stages, output = _sizes(network)
    with np.errstate(all="ignore"):
        for place, (stage, sizes) in enumerate(zip(network.stages, stages, strict=True)):
            z_error = _up(sizes.pre @ error)
            z_size = _up(sizes.pre @ size + sizes.pre_offset)
            r_error = z_error
            if pre is not None:
                off = _surely_off(pre[place], z_error)
                r_error = np.where(off, 0.0, z_error)
            passed = sizes.skip @ error + sizes.gain @ r_error
            if stage.doubt is not None:
                passed = passed + stage.doubt.matrix @ (size + error) + stage.doubt.offset
            error = _up(passed)
            size = _up(sizes.skip @ size + sizes.skip_offset + sizes.gain @ z_size)
        error = _up(output @ error)
    if not np.isfinite(error).all():
        return None
    return tuple(Fraction(value) for value in error.tolist())


def _surely_off(z: Point, error: Floats) -> NDArray[np.bool_]:
    """The units at which z~ + error < 0, decided exactly."""
    pairs = zip(z.numerators, error.tolist(), strict=True)
    flags = [
        int(value) < 0 and np.isfinite(e) and Fraction(int(value), z.denominator) + Fraction(e) < 0
        for value, e in pairs
    ]
    return np.array(flags, dtype=bool)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Absolute values of a stage's maps, rounded up."""

    pre: Floats
    pre_offset: Floats
    skip: Floats
    skip_offset: Floats
    gain: Floats


@lru_cache(maxsize=8)
def _sizes(network: ExactNetwork) -> tuple[tuple[_Sizes, ...], Floats]:
    stages = tuple(
        _Sizes(*sizes_up(stage.pre), *sizes_up(stage.skip), sizes_up(stage.gain)[0])
        for stage in network.stages
    )
    return stages, sizes_up(network.output)[0]


def sizes_up(exact: Affine) -> tuple[Floats, Floats]:
    """Absolute values of matrix and offset in float64, rounded up; 0 stays 0."""
    matrix, offset = exact.float64()
    return (
        np.where(exact.matrix != 0, _up(np.abs(matrix)), 0.0),
        np.where(exact.offset != 0, _up(np.abs(offset)), 0.0),
    )


def _magnitudes(point: Point) -> Floats:
    column = Affine(point.numerators[:, None], point.numerators, point.denominator)
    return sizes_up(column)[1]


def _up(values: Floats) -> Floats:
    return values * _INFLATE + _TINY
