"""Bounds on every unit and on the violation over boxes of inputs: float64, rounded outward.

Two ways, the better of both is kept: interval propagation, and a backward linear relaxation. For a
row of weights L the value L h is followed back to the input,

    L h' = L skip(h) + (L gain) r,     r <= s z + t   where L gain > 0  (upper line of the triangle)
                                       r >= a z       where L gain < 0  (a = 0 or 1)

and there maximised over the box, or the ball in it (:mod:`relaxcert.smt.support`). Any slopes s and
a are valid, so their rounding does no harm; t is rounded up.

Rounding. With gamma_k as in Higham (2002) for sums of k products, the weights of the followed row
are off by at most gamma (|L| |skip| + |D| |pre|), entry by entry, which moves the value by at most
gamma (|L| (|skip| H) + |D| (|pre| H)) where H >= |h|. That is two products with vectors a stage.
Numbers above 1e15 give no bound.

No Lipschitz bound is used: a judge that borrowed them would confirm their faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxcert.smt.float_network import UNIT, FloatMap, FloatNetwork, FloatStage
from relaxcert.smt.support import Boxes, maximum

Floats = NDArray[np.float64]
_INFLATE = 1.0 + 2.0**-20  # exceeds the rounding of any bound's own few thousand operations
_TINY = 1e-280  # exceeds all underflow: fewer than 1e6 operations, each 1e-323 times two numbers
_HUGE = 1e15  # ... below this


@dataclass(frozen=True, slots=True)
class Lines:
    """The relaxation of one stage's units over each box: slopes and offset; (boxes, units)."""

    upper_slope: Floats
    upper_offset: Floats
    lower_slope: Floats


@dataclass(frozen=True, slots=True)
class Reach:
    """How far one stage goes over each box: |h| entrywise and what depends on it."""

    state: Floats  # H >= |h|, (boxes, state)
    pre: Floats  # >= |pre| H + |pre offset|, (boxes, units)
    following: Floats  # >= |skip| H + |skip offset| + |gain| R, (boxes, next state)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known over each box.

    Attributes:
        lower, upper: for each stage, bounds of z, (boxes, units).
        highest, lowest: bounds of each row (atom), (boxes, rows).
        weights: the followed rows at the input, upper bound, (boxes, rows, inputs).
    """

    lower: tuple[Floats, ...]
    upper: tuple[Floats, ...]
    highest: Floats
    lowest: Floats
    weights: Floats

    def units(self, stage: int) -> tuple[Floats, Floats]:
        """Lower and upper bounds of one stage's z."""
        return self.lower[stage], self.upper[stage]

    def take(self, chosen: Any) -> Bounds:
        """The bounds of some of the boxes."""
        return Bounds(
            tuple(values[chosen] for values in self.lower),
            tuple(values[chosen] for values in self.upper),
            self.highest[chosen],
            self.lowest[chosen],
            self.weights[chosen],
        )

    def twice(self) -> Bounds:
        """The bounds of the boxes, and once more: what is known of their halves."""
        index = np.arange(len(self.highest))
        return self.take(np.concatenate([index, index]))

    def unstable(self) -> NDArray[np.int64]:
        """How many units may be on either side of 0, (boxes,)."""
        counts = [((a < 0) & (b > 0)).sum(1) for a, b in zip(self.lower, self.upper, strict=True)]
        return np.sum(counts, axis=0, dtype=np.int64) + np.zeros(len(self.highest), dtype=np.int64)


def joined(parts: Sequence[Bounds]) -> Bounds:
    """The bounds of several batches of boxes, one after another."""
    stages = range(len(parts[0].lower))
    return Bounds(
        tuple(np.concatenate([part.lower[s] for part in parts]) for s in stages),
        tuple(np.concatenate([part.upper[s] for part in parts]) for s in stages),
        np.concatenate([part.highest for part in parts]),
        np.concatenate([part.lowest for part in parts]),
        np.concatenate([part.weights for part in parts]),
    )


def bounds_over(
    network: FloatNetwork, boxes: Boxes, rows: FloatMap, known: Bounds | None = None
) -> Bounds:
    """Bounds of all units and of ``rows`` over each box; never NaN, infinite where unknown.

    ``known`` are bounds that hold there already, for instance those of a box around each.
    """
    with np.errstate(all="ignore"):
        return _Pass(network, boxes, known).run(rows)


class _Pass:
    """One pass over the network, stage by stage, for a batch of boxes."""

    def __init__(self, network: FloatNetwork, boxes: Boxes, known: Bounds | None) -> None:
        self.network = network
        self.known = known
        self.boxes = boxes
        self.lines: list[Lines] = []
        self.reaches: list[Reach] = []

    def run(self, rows: FloatMap) -> Bounds:
        lower: list[Floats] = []
        upper: list[Floats] = []
        middle, radius = self.boxes.middle, self.boxes.radius
        for place, stage in enumerate(self.network.stages):
            by_interval = self._interval(stage.pre, middle, radius)
            backward, _ = self._backward(stage.pre)
            low, high = _better(by_interval, backward)
            if self.known is not None:
                low, high = _better((low, high), self.known.units(place))
            lower.append(low)
            upper.append(high)
            self.lines.append(lines_over(low, high))
            middle, radius = self._advance(stage, middle, radius, low, high)
        (lowest, highest), weights = self._backward(rows)
        lowest, highest = _better(self._interval(rows, middle, radius), (lowest, highest))
        if self.known is not None:
            known = (self.known.lowest, self.known.highest)
            lowest, highest = _better((lowest, highest), known)
        return Bounds(tuple(lower), tuple(upper), highest, lowest, weights)

    def _interval(self, rows: FloatMap, middle: Floats, radius: Floats) -> tuple[Floats, Floats]:
        centre = middle @ rows.matrix.T + rows.offset
        spread = radius @ rows.size.T
        size = (np.abs(middle) + radius) @ rows.size.T + rows.offset_size
        spread = (spread + self.network.gamma * size) * _INFLATE + _TINY
        return _down(centre - spread), _up(centre + spread)

    def _advance(
        self, stage: FloatStage, middle: Floats, radius: Floats, low: Floats, high: Floats
    ) -> tuple[Floats, Floats]:
        """Intervals of the next state, and the sizes that the rounding terms need."""
        bottom, top = np.maximum(low, 0.0), np.maximum(high, 0.0)
        unit_middle = 0.5 * (bottom + top)
        unit_radius = _up(np.maximum(top - unit_middle, unit_middle - bottom))
        state = _up(np.abs(middle) + radius)
        pre = (state @ stage.pre.size.T + stage.pre.offset_size) * _INFLATE + _TINY
        following = state @ stage.skip.size.T + stage.skip.offset_size + top @ stage.gain.size.T
        following = following * _INFLATE + _TINY
        self.reaches.append(Reach(state, pre, following))
        centre = (
            middle @ stage.skip.matrix.T + stage.skip.offset + unit_middle @ stage.gain.matrix.T
        )
        spread = radius @ stage.skip.size.T + unit_radius @ stage.gain.size.T
        spread = (spread + self.network.gamma * following) * _INFLATE + _TINY
        return centre, spread

    def _backward(self, rows: FloatMap) -> tuple[tuple[Floats, Floats], Floats]:
        """Bounds of rows over the state before stage len(self.lines), and the upper weights."""
        count = len(rows.matrix)
        # -row is bounded from above too, which gives the lower bound of row.
        weights = np.concatenate([rows.matrix, -rows.matrix])[None]
        constant = np.concatenate([rows.offset, -rows.offset])[None]
        error = np.zeros((1, 2 * count))
        # The largest number in sight, for the cover of underflow.
        largest = np.abs(self.boxes.middle).max(1)[:, None] + self.boxes.radius.max(1)[:, None]
        gamma = self.network.gamma
        for stage, lines, reach in zip(
            reversed(self.network.stages[: len(self.lines)]),
            reversed(self.lines),
            reversed(self.reaches),
            strict=True,
        ):
            gained = weights @ stage.gain.matrix
            positive = np.maximum(gained, 0.0)
            followed = (
                positive * lines.upper_slope[:, None]
                + np.minimum(gained, 0.0) * (lines.lower_slope[:, None])
            )
            lifted = _times(positive, lines.upper_offset)
            largest = np.maximum(largest, np.abs(weights).max(2, initial=0.0))
            largest = np.maximum(largest, np.abs(followed).max(2, initial=0.0))
            largest = np.maximum(largest, _widest(reach))
            error = error + gamma * (
                _times(np.abs(weights), reach.following)
                + _times(np.abs(followed), reach.pre)
                + lifted
                + np.abs(constant)
            )
            constant = constant + weights @ stage.skip.offset + followed @ stage.pre.offset + lifted
            weights = weights @ stage.skip.matrix + followed @ stage.pre.matrix
        if not self.lines:  # the conversion of the rows themselves meets the input only here
            state = _up(np.abs(self.boxes.middle) + self.boxes.radius)
            error = error + gamma * _times(np.abs(weights), state)
        furthest = maximum(self.boxes, weights)
        highest = furthest + constant
        error = (error + gamma * (np.abs(furthest) + np.abs(constant))) * _INFLATE + _TINY
        highest = _up(highest + error)
        largest = np.maximum(largest, np.abs(weights).max(2, initial=0.0))
        highest = np.where(np.isfinite(highest) & (largest < _HUGE), highest, np.inf)
        return (-highest[:, count:], highest[:, :count]), np.broadcast_to(
            weights, (len(self.boxes.middle), *weights.shape[1:])
        )[:, :count]


def _widest(reach: Reach) -> Floats:
    """The largest size in a stage, (boxes, 1)."""
    parts = np.concatenate([reach.state, reach.pre, reach.following], axis=1)
    return parts.max(1, keepdims=True)


def _times(weights: Floats, sizes: Floats) -> Floats:
    """Row by row: (boxes or 1, rows, n) with (boxes, n) -> (boxes, rows)."""
    return (weights @ sizes[:, :, None])[:, :, 0]


def lines_over(low: Floats, high: Floats) -> Lines:
    """The triangle over [low, high]: r <= slope z + offset; r >= lower_slope z."""
    crossing = (low < 0) & (high > 0)
    width = np.where(crossing, high - low, 1.0)
    slope = np.where(crossing, np.clip(high / width, 0.0, 1.0), (low >= 0).astype(np.float64))
    # r = max(z, 0) is convex, so a line that is above it at both ends is above it between.
    at_ends = np.maximum(-slope * low, high - slope * high)
    # slope * high is off by at most a rounding of high, however small the difference is.
    offset = np.where(crossing, at_ends * _INFLATE + 8 * UNIT * high + _TINY, 0.0)
    lower = np.where(crossing, (high > -low).astype(np.float64), slope)
    # Unknown bounds leave no line: an infinite offset, which makes the result infinite.
    unknown = ~(np.isfinite(low) & np.isfinite(high))
    return Lines(slope, np.where(unknown & ~(high <= 0), np.inf, offset), lower)


def _better(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """The narrower of two enclosures, entry by entry; NaN counts as unknown."""
    low = np.maximum(_known(first[0], -np.inf), _known(second[0], -np.inf))
    high = np.minimum(_known(first[1], np.inf), _known(second[1], np.inf))
    return low, high


def _known(values: Floats, otherwise: float) -> Floats:
    return np.where(np.isnan(values), otherwise, values)


def _up(values: Floats) -> Floats:
    return np.nextafter(values, np.inf)


def _down(values: Floats) -> Floats:
    return np.nextafter(values, -np.inf)
