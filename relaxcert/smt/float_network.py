"""The network in float64: the maps of the exact chain, each entry rounded once.

Bounds, searches and rounded solver problems work on it; ``gamma`` is what its sums may lose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxcert.smt.affine import Affine
from relaxcert.smt.network import ExactNetwork

Floats = NDArray[np.float64]
UNIT = 2.0**-53


@dataclass(frozen=True, slots=True)
class FloatMap:
    """An affine map with entries off by at most one rounding; and its absolute values."""

    matrix: Floats
    offset: Floats
    size: Floats
    offset_size: Floats

    @classmethod
    def of(cls, exact: Affine) -> FloatMap:
        """The nearest float64 numbers."""
        matrix, offset = exact.float64()
        return cls(matrix, offset, np.abs(matrix), np.abs(offset))


@dataclass(frozen=True, slots=True)
class FloatStage:
    """A stage in float64; ``skip`` and ``gain`` as in the exact stage."""

    pre: FloatMap
    skip: FloatMap
    gain: FloatMap


@dataclass(frozen=True, slots=True)
class FloatNetwork:
    """The network in float64, for bounds and for searching; ``gamma`` covers its sums."""

    stages: tuple[FloatStage, ...]
    output: FloatMap
    gamma: float

    @classmethod
    def of(cls, network: ExactNetwork) -> FloatNetwork:
        """Convert once, use for all boxes."""
        stages = tuple(
            FloatStage(FloatMap.of(s.pre), FloatMap.of(s.skip), FloatMap.of(s.gain))
            for s in network.stages
        )
        widest = max([network.inputs, *(max(m.rows, m.columns) for m in network.maps())])
        operations = 4 * widest + 64
        gamma = operations * UNIT / (1 - operations * UNIT)
        return cls(stages, FloatMap.of(network.output), gamma)
