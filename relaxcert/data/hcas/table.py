"""The solved table: scores and advisories anywhere, by interpolation, in normalised units."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relaxcert.data.cache import cached
from relaxcert.data.hcas import model
from relaxcert.data.hcas.interpolation import interpolated
from relaxcert.data.hcas.solve import TOLERANCE, solve
from relaxcert.errors import InvalidInput

Array = NDArray[np.float64]
_FORMAT = 1  # raise it when the table changes


@dataclass(frozen=True)
class Table:
    """Scores of the five advisories on a grid of encounters; larger is better.

    Inputs are rho (feet), theta, psi (radians) and, with more than one speed, v_own and v_int (feet
    per second). Normalised, each is (x - middle) / width of its axis, so in [-1/2, 1/2].

    Attributes:
        axes: grid points of each input, in physical units.
        values: (previous advisory, rho, theta, psi[, v_own, v_int], advisory), float32.
    """

    axes: tuple[Array, ...]
    values: NDArray[np.float32]

    @property
    def middle(self) -> Array:
        """(inputs,)"""
        return np.array([(axis[0] + axis[-1]) / 2 for axis in self.axes])

    @property
    def width(self) -> Array:
        """(inputs,)"""
        return np.array([axis[-1] - axis[0] for axis in self.axes])

    def scores(self, normalised: NDArray[np.floating], previous: int = model.COC) -> Array:
        """Scores at normalised points, (points, inputs) -> (points, 5)."""
        if normalised.ndim != 2 or normalised.shape[1] != len(self.axes):
            raise InvalidInput(
                f"points have shape {normalised.shape}, expected (points, {len(self.axes)})."
            )
        physical = normalised.astype(np.float64) * self.width + self.middle
        return interpolated(self.axes, self.values[previous], physical)

    def advisories(
        self, normalised: NDArray[np.floating], previous: int = model.COC
    ) -> NDArray[np.int64]:
        """The best advisory at normalised points; on a tie the first; (points,)."""
        return self.scores(normalised, previous).argmax(1)


def load_table(
    *,
    speeds: int = 1,
    angles: int | None = None,
    folder: Path | None = None,
    after_sweep: Callable[[float, int], object] = lambda done, total: None,
) -> Table:
    """The table, from the cache or solved now.

    Args:
        speeds: 1, both aircraft at 200 feet per second (three inputs, 3 s on one core), or 3,
            every pair of 100, 250 and 400 (five inputs, 9 s).
        angles: grid points of theta and psi from -pi to pi; 41 for one speed, 31 for three.
        folder: of the cache, instead of the usual one.
        after_sweep: called with how many pairs of speeds are solved, in fractions, and of how many.

    Raises:
        InvalidInput: another number of speeds, or fewer than 9 angles.
    """
    if speeds not in (1, 3):
        raise InvalidInput(f"speeds={speeds} must be 1 (three inputs) or 3 (five inputs).")
    points = angles or (41 if speeds == 1 else 31)
    if points < 9:
        raise InvalidInput(f"angles={angles} must be at least 9.")
    speed = model.ONE_SPEED if speeds == 1 else model.THREE_SPEEDS
    grid = np.linspace(-np.pi, np.pi, points)
    key = {"format": _FORMAT, "speeds": speed.tolist(), "angles": points, "tolerance": TOLERANCE}

    def compute() -> dict[str, np.ndarray]:
        return {"values": _solved(speed, grid, after_sweep)}

    values = cached("hcas", key, compute, folder=folder)["values"]
    axes = (model.RANGES, grid, grid) + ((speed, speed) if speeds > 1 else ())
    return Table(axes, values)


def _solved(
    speed: Array, grid: Array, after_sweep: Callable[[float, int], object]
) -> NDArray[np.float32]:
    pairs = list(product(speed, speed))
    tables: list[NDArray[np.float32]] = []
    for place, (own, intruder) in enumerate(pairs):

        def report(sweep: int, change: float, place: int = place) -> None:
            # The change falls by about the same factor with each sweep, from 1 on.
            share = math.log(max(min(change, 1.0), TOLERANCE)) / math.log(TOLERANCE)
            after_sweep(place + share, len(pairs))

        solution = solve(model.RANGES, grid, float(own), float(intruder), after_sweep=report)
        # (previous, rho, theta, psi, advisory)
        tables.append(np.moveaxis(solution.values, 1, -1))
    stacked = np.stack(tables, axis=4)
    if len(pairs) == 1:
        return np.ascontiguousarray(stacked[:, :, :, :, 0])
    shape = (*stacked.shape[:4], len(speed), len(speed), stacked.shape[-1])
    return np.ascontiguousarray(stacked.reshape(shape))
