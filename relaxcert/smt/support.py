"""Boxes of inputs in float64, and how large a linear function can be on box and ball together.

With d = x - centre of the ball, for any split of the weights w = v + u:

    max over box and ball of w . x  <=  max over the ball of v . x  +  max over the box of u . x

u = w gives the box alone, v = w the ball alone; between them the best split follows from the
maximiser d*: v is a multiple of d* for l2 and w clipped to a threshold for l1. Every split is
valid, so the search for a good one may round as it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxcert.lipschitz.directed import fraction_up
from relaxcert.smt.query import Region
from relaxcert.spec.ball import Norm

Floats = NDArray[np.float64]
_STEPS = 12  # of the bisection for the best split
_TINY = 1e-150  # exceeds all underflow, that of squares among it, where numbers are below 1e15


@dataclass(frozen=True, slots=True)
class FloatBall:
    """A ball that holds the exact one: float64 centre, radius rounded up."""

    centre: Floats
    radius: float
    norm: Norm


@dataclass(frozen=True, slots=True)
class Boxes:
    """A batch of boxes, each the set |x - middle| <= radius entrywise, in a ball or not.

    Attributes:
        lower, upper: (boxes, inputs), exact float64 corners.
        ball: the ball whose part in the box counts; None if the whole box does.
        whole: whether these boxes hold the whole ball, so that the box itself cuts nothing off.
    """

    lower: Floats
    upper: Floats
    ball: FloatBall | None = None
    whole: bool = False

    @classmethod
    def around(cls, region: Region) -> Boxes:
        """One box, a superset of the region, rounded outward."""
        lower = np.array([[-fraction_up(-value) for value in region.lower]])
        upper = np.array([[fraction_up(value) for value in region.upper]])
        return cls(lower, upper, float_ball(region), whole=True)

    @property
    def middle(self) -> Floats:
        """About the centre of each box, (boxes, inputs)."""
        return 0.5 * self.lower + 0.5 * self.upper

    @property
    def radius(self) -> Floats:
        """Half-widths about ``middle``, rounded up."""
        middle = self.middle
        return np.nextafter(np.maximum(self.upper - middle, middle - self.lower), np.inf)

    def take(self, chosen: Any) -> Boxes:
        """Some of the boxes."""
        return Boxes(self.lower[chosen], self.upper[chosen], self.ball, self.whole)

    def split(self, dimensions: NDArray[np.int64]) -> Boxes:
        """Each box cut in two across its dimension, through the middle; (boxes,) -> 2 boxes."""
        index = np.arange(len(self.lower))
        cut = self.middle[index, dimensions]
        lower, upper = self.lower.copy(), self.upper.copy()
        upper[index, dimensions] = cut
        lower[index, dimensions] = cut
        return Boxes(
            np.concatenate([self.lower, lower]), np.concatenate([upper, self.upper]), self.ball
        )

    def outside(self) -> NDArray[np.bool_]:
        """The boxes that surely do not meet the ball, (boxes,)."""
        if self.ball is None:
            return np.zeros(len(self.lower), dtype=bool)
        gap = np.maximum(self.lower - self.ball.centre, self.ball.centre - self.upper)
        gap = np.maximum(np.nextafter(gap, -np.inf), 0.0)
        distance = np.linalg.norm(gap, 1 if self.ball.norm == "l1" else 2, axis=1)
        return distance * (1 - 1e-12) > self.ball.radius


def float_ball(region: Region) -> FloatBall | None:
    """A float64 ball that holds the region's ball."""
    if region.centre is None or region.ball is None:
        return None
    centre = [float(value) for value in region.centre]
    # In any norm the distance of the two centres is at most the sum of the coordinates'.
    moved = sum(
        (abs(Fraction(c) - v) for c, v in zip(centre, region.centre, strict=True)), Fraction(0)
    )
    return FloatBall(np.array(centre), fraction_up(region.ball.eps + moved), region.ball.norm)


def maximum(boxes: Boxes, weights: Floats) -> Floats:
    """An upper bound of ``weights @ x`` over each box (and ball), rounded up.

    shape: (boxes or 1, rows, inputs) -> (boxes, rows)
    """
    middle, radius = boxes.middle, boxes.radius
    best = _over_box(weights, middle, radius)
    ball = boxes.ball
    if ball is None:
        return best
    best = np.minimum(best, _over_ball(weights, ball))
    if boxes.whole:
        return best
    for part in _splits(boxes, ball, weights):
        rest = weights - part
        lost = _unit(weights) * _dot(np.abs(weights) + np.abs(part), np.abs(middle) + radius)
        split = _over_ball(part, ball) + _over_box(rest, middle, radius)
        best = np.minimum(best, split + _unit(weights) * np.abs(split) + lost)
    return best


def _over_box(weights: Floats, middle: Floats, radius: Floats) -> Floats:
    size = np.abs(weights)
    spread = _dot(size, radius) + _unit(weights) * _dot(size, np.abs(middle) + radius)
    return _dot(weights, middle) + spread + _TINY


def _over_ball(weights: Floats, ball: FloatBall) -> Floats:
    size = np.abs(weights)
    length = size.max(2) if ball.norm == "l1" else np.sqrt((weights * weights).sum(2)) + _TINY
    reach = length * ball.radius
    rounding = _unit(weights) * (size @ np.abs(ball.centre) + reach)
    return weights @ ball.centre + (reach + rounding) + _TINY


def _unit(weights: Floats) -> float:
    """More than twice gamma_n for sums over the inputs and the few operations after them."""
    return (weights.shape[-1] + 16) * 2.0**-51


def _dot(weights: Floats, values: Floats) -> Floats:
    return (weights @ values[:, :, None])[:, :, 0]


def _splits(boxes: Boxes, ball: FloatBall, weights: Floats) -> Sequence[Floats]:
    if ball.norm == "l1":
        thresholds = [0.25, 0.5, 0.75]
        largest = np.abs(weights).max(2, keepdims=True)
        return [np.clip(weights, -t * largest, t * largest) for t in thresholds]
    low = (boxes.lower - ball.centre)[:, None, :]
    high = (boxes.upper - ball.centre)[:, None, :]
    length = np.sqrt((weights * weights).sum(2, keepdims=True)) + 1e-300
    # d(s) = clip(s w) has the length of the radius at the best s; bisect over its exponent.
    small = np.broadcast_to(np.log2(ball.radius / length), (len(boxes.lower), *length.shape[1:]))
    large = small + 30.0
    for _ in range(_STEPS):
        exponent = 0.5 * (small + large)
        step = np.clip(weights * np.exp2(exponent), low, high)
        inside = (step * step).sum(2, keepdims=True) < ball.radius**2
        small, large = np.where(inside, exponent, small), np.where(inside, large, exponent)
    scale = np.exp2(small)
    return [np.clip(weights * scale, low, high) / scale]
