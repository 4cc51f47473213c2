"""Multilinear interpolation on a rectangular grid, clamped at its ends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def cell(axis: Array, values: Array) -> tuple[Index, Array]:
    """The grid point below each value, and the weight of the one above (0 for a single point)."""
    if len(axis) == 1:
        return np.zeros(values.shape, dtype=np.int64), np.zeros(values.shape)
    inside = np.clip(values, axis[0], axis[-1])
    lower = np.clip(np.searchsorted(axis, inside, side="right") - 1, 0, len(axis) - 2)
    return lower, (inside - axis[lower]) / (axis[lower + 1] - axis[lower])


def interpolated(axes: Sequence[Array], table: NDArray[np.floating], points: Array) -> Array:
    """Values of a table at points, (points, len(axes)) -> (points, outputs).

    Args:
        axes: increasing grid points of each input.
        table: (len(axes[0]), ..., len(axes[-1]), outputs).
        points: clamped to the grid.
    """
    cells = [cell(axis, points[:, place]) for place, axis in enumerate(axes)]
    flat = table.reshape(-1, table.shape[-1])
    result = np.zeros((len(points), table.shape[-1]))
    # Corners above the last point of an axis of one point do not exist.
    sides = [(0, 1) if len(axis) > 1 else (0,) for axis in axes]
    for corner in product(*sides):
        place: Index = np.zeros(len(points), dtype=np.int64)
        weight = np.ones(len(points))
        for axis, (lower, upper_weight), side in zip(axes, cells, corner, strict=True):
            place = place * len(axis) + lower + side
            weight = weight * (upper_weight if side else 1.0 - upper_weight)
        result += weight[:, None] * flat[place]
    return result
