"""The exact local Lipschitz constants of logit differences, by enumeration of linear pieces.

On each linear piece of the network f_j - f_i is affine; its constant on a ball is the largest dual
norm of the gradients of the pieces that meet the ball's interior. The pieces are found by fixing
the sides of the units one after another, in float64; each piece counts only by a point that lies
strictly inside it and in the ball, checked in exact arithmetic, where its gradient is exact too. So
a constant reported here is attained, and a bound K_ji below it is wrong. Pieces thinner than the
search's margin may be missed: for judging a bound as too small, that is the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, nnls

from relaxcert.errors import InvalidInput, UnsupportedLayer
from relaxcert.smt.affine import Affine
from relaxcert.smt.bounds import bounds_over
from relaxcert.smt.float_network import FloatMap, FloatNetwork
from relaxcert.smt.network import ExactNetwork
from relaxcert.smt.problem import float_network
from relaxcert.smt.query import Budget, Clock, Exact, Region
from relaxcert.smt.support import Boxes
from relaxcert.spec.ball import Norm

Floats = NDArray[np.float64]
Pair = tuple[int, int]
_MARGIN = 1e-9  # by which a point must be inside its piece, relative to the constraint's length


@dataclass(frozen=True, slots=True)
class LocalLipschitz:
    """What was found in one ball.

    Attributes:
        norm: of the input space.
        largest: for each pair (j, i), j < i, the dual norm of the steepest gradient of f_j - f_i;
            for l2 its square; exact.
        pieces: how many linear pieces were counted.
        complete: whether the enumeration came to its end within the budget.
    """

    norm: Norm
    largest: dict[Pair, Fraction]
    pieces: int
    complete: bool

    def value(self, j: int, i: int) -> float:
        """The constant of f_j - f_i, to the nearest float64."""
        found = self.largest[min(j, i), max(j, i)]
        return math.sqrt(found) if self.norm == "l2" else float(found)

    def exceeds(self, j: int, i: int, bound: float) -> bool:
        """Whether the constant is larger than ``bound``, decided exactly: the bound is wrong."""
        found = self.largest[min(j, i), max(j, i)]
        exact = Fraction(bound)
        return found > (exact * exact if self.norm == "l2" else exact)


def local_lipschitz(
    network: ExactNetwork,
    region: Region,
    norm: Norm,
    *,
    budget: Budget | float | str = 60.0,
) -> LocalLipschitz:
    """Enumerate the linear pieces that meet a region; practical to some twenty open units.

    Args:
        network: exact.
        region: ``Region.around(point, ball)``.
        norm: of the ball.
        budget: wall time.

    Raises:
        InvalidInput: another norm than the region's, a budget of 0.
        UnsupportedLayer: irrational scales (BatchNorm).
    """
    if network.has_doubt:
        raise UnsupportedLayer(
            "the network has a BatchNorm whose scale is irrational: its gradients have no exact "
            "values to compare bounds with."
        )
    if region.ball is not None and region.ball.norm != norm:
        raise InvalidInput(f"norm={norm!r} is not the norm of the region, {region.ball.norm!r}.")
    return _Enumeration(network, region, norm, Clock(Budget.of(budget))).run()


class _Enumeration:
    def __init__(self, network: ExactNetwork, region: Region, norm: Norm, clock: Clock) -> None:
        self.network, self.region, self.clock = network, region, clock
        self.norm: Norm = norm
        self.float: FloatNetwork = float_network(network)
        self.centre = np.array([float(value) for value in region.middle])
        self.radius = max(float(b - a) / 2 for a, b in zip(region.lower, region.upper, strict=True))
        rows = FloatMap.of(Affine.zero(0, network.output.columns))
        self.bounds = bounds_over(self.float, Boxes.around(region), rows)
        self.largest: dict[Pair, Fraction] = {}
        self.pieces = 0

    def run(self) -> LocalLipschitz:
        nothing = (np.zeros((0, len(self.centre))), np.zeros(0))
        size = len(self.centre)
        self._stage(0, np.eye(size), self.centre.copy(), nothing, [])
        return LocalLipschitz(self.norm, self.largest, self.pieces, not self.clock.up)

    def _stage(
        self,
        stage: int,
        weights: Floats,
        offset: Floats,
        sides: tuple[Floats, Floats],
        pattern: list[NDArray[np.bool_]],
    ) -> None:
        """State = weights d + offset on the piece so far, d = x - centre; sides: G d >= h."""
        if self.clock.up:
            return
        if stage == len(self.float.stages):
            self._count(sides, pattern)
            return
        layer = self.float.stages[stage]
        z_weights = layer.pre.matrix @ weights
        z_offset = layer.pre.matrix @ offset + layer.pre.offset
        for active, held in self._patterns(stage, z_weights, z_offset, sides):
            gain = layer.gain.matrix * active
            self._stage(
                stage + 1,
                layer.skip.matrix @ weights + gain @ z_weights,
                layer.skip.matrix @ offset + layer.skip.offset + gain @ z_offset,
                held,
                [*pattern, active],
            )

    def _patterns(
        self, stage: int, weights: Floats, offset: Floats, sides: tuple[Floats, Floats]
    ) -> Iterator[tuple[NDArray[np.bool_], tuple[Floats, Floats]]]:
        """The sides that the units of a stage can take together, with their constraints."""
        low, high = self.bounds.lower[stage][0], self.bounds.upper[stage][0]
        opened = np.nonzero((low < 0) & (high > 0))[0].tolist()
        start = low >= 0
        stack = [(start, sides, 0)]
        while stack and not self.clock.up:
            active, held, place = stack.pop()
            if place == len(opened):
                yield active, held
                continue
            unit = opened[place]
            for on in (True, False):
                sign = 1.0 if on else -1.0
                more = (
                    np.concatenate([held[0], sign * weights[unit][None]]),
                    np.concatenate([held[1], [-sign * offset[unit]]]),
                )
                if self._inside(more) is not None:
                    chosen = active.copy()
                    chosen[unit] = on
                    stack.append((chosen, more, place + 1))

    def _inside(self, sides: tuple[Floats, Floats]) -> Floats | None:
        """An offset in the ball strictly on the given sides, or None if none was found."""
        length = np.linalg.norm(sides[0], axis=1)
        if ((length < 1e-12) & (sides[1] > 0)).any():
            return None
        kept = length >= 1e-12
        directions, limits = sides[0][kept] / length[kept, None], sides[1][kept] / length[kept]
        limits = limits + _MARGIN * self.radius
        if len(limits) == 0:
            return np.zeros(len(self.centre))
        if self.norm == "l2":
            return self._least(directions, limits)
        return self._by_linear_program(directions, limits)

    def _least(self, directions: Floats, limits: Floats) -> Floats | None:
        table = np.concatenate([directions.T, limits[None]])
        target = np.zeros(len(table))
        target[-1] = 1.0
        try:
            weights, _ = nnls(table, target, maxiter=50 * table.shape[1])
        except RuntimeError:
            return None
        residual = table @ weights - target
        if abs(residual[-1]) < 1e-14:
            return None
        offset = -residual[:-1] / residual[-1]
        return offset if np.linalg.norm(offset) < self.radius else None

    def _by_linear_program(self, directions: Floats, limits: Floats) -> Floats | None:
        size = len(self.centre)
        if self.norm == "linf":
            result = linprog(
                np.zeros(size), -directions, -limits, bounds=[(-self.radius, self.radius)] * size
            )
            return None if result.x is None else result.x
        # l1: d = p - q with p, q >= 0 and sum (p + q) <= radius.
        table = np.concatenate([-directions, directions], axis=1)
        table = np.concatenate([table, np.ones((1, 2 * size))])
        result = linprog(np.ones(2 * size), table, np.append(-limits, self.radius))
        return None if result.x is None else result.x[:size] - result.x[size:]

    def _count(self, sides: tuple[Floats, Floats], pattern: list[NDArray[np.bool_]]) -> None:
        offset = self._inside(sides)
        if offset is None:
            return
        point = tuple(Fraction(value) for value in (self.centre + offset).tolist())
        if not self.region.contains(point) or not self._strictly_in(point, pattern):
            return
        self.pieces += 1
        jacobian = self._gradients(pattern)
        labels = range(self.network.classes)
        for j in labels:
            for i in range(j + 1, self.network.classes):
                row = [
                    Fraction(int(a) - int(b), jacobian.denominator)
                    for a, b in zip(jacobian.matrix[j], jacobian.matrix[i], strict=True)
                ]
                size = _dual(row, self.norm)
                self.largest[j, i] = max(size, self.largest.get((j, i), Fraction(0)))

    def _strictly_in(self, point: Exact, pattern: list[NDArray[np.bool_]]) -> bool:
        values = self.network.run(point).pre
        return all(
            (number > 0) if on else (number < 0)
            for value, active in zip(values, pattern, strict=True)
            for number, on in zip(value.numerators, active.tolist(), strict=True)
        )

    def _gradients(self, pattern: list[NDArray[np.bool_]]) -> Affine:
        """The logits as an exact affine function of x on the piece."""
        state = Affine.identity(self.network.inputs)
        for stage, active in zip(self.network.stages, pattern, strict=True):
            z = stage.pre @ state
            on = active.astype(int).astype(object)
            units = Affine(z.matrix * on[:, None], z.offset * on, z.denominator)
            state = (stage.skip @ state) + (stage.gain @ units)
        return self.network.output @ state


def _dual(gradient: list[Fraction], norm: Norm) -> Fraction:
    """The dual norm of a gradient; its square for l2."""
    if norm == "l2":
        return sum((value * value for value in gradient), Fraction(0))
    sizes = [abs(value) for value in gradient]
    return sum(sizes, Fraction(0)) if norm == "linf" else max(sizes)
