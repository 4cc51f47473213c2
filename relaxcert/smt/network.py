"""The exact network: affine maps over the rationals and one kind of unit, r = relu(z).

Every piecewise-linear layer that relaxcert knows is written with r = max(z, 0) alone:

    ReLU(z)       = r(z)                       LeakyReLU_a(z) = a z + (1 - a) r(z)
    |z|           = 2 r(z) - z                 max(a, b)      = b + r(a - b)
    MinMax(a, b)  = (a - r(a - b), b + r(a - b))     one unit for a pair

so that a network is a chain of stages on a state h, h = x at first:

    z = pre(h),   r = max(z, 0),   h' = skip(h) + gain(r)           logits = output(h)

Sums, concatenations and branches are carried along in the state. The chain speaks of the real
function of the stored numbers; nothing in it rounds. The one exception is stated: where a scale is
irrational (BatchNorm), a stage holds a rational next to it and a ``doubt`` that bounds the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from relaxcert.smt.affine import Affine, Point

Exact = tuple[Fraction, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Doubt:
    """How far each true entry of a map may be from the stored one; not negative, float64."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    def padded(self, rows: int) -> Doubt:
        """The same, with so many more rows that are exact."""
        return Doubt(np.pad(self.matrix, ((0, rows), (0, 0))), np.pad(self.offset, (0, rows)))


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One step of the chain.

    Attributes:
        pre: h -> z, the inputs of the units; (units, state).
        skip: h -> what passes by the units; (next state, state).
        gain: r -> what the units add; (next state, units), without offset.
        doubt: of ``skip``, where it stands for a map without rational numbers; None: it is exact.
    """

    pre: Affine
    skip: Affine
    gain: Affine
    doubt: Doubt | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """One exact run: the input of every unit, stage by stage, and the logits."""

    pre: tuple[Point, ...]
    logits: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ExactNetwork:
    """A network over the rationals, (inputs,) -> (classes,); inputs are flattened."""

    inputs: int
    stages: tuple[Stage, ...]
    output: Affine

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return self.output.rows

    @property
    def has_doubt(self) -> bool:
        """Whether some stage is only near to the true one."""
        return any(stage.doubt is not None for stage in self.stages)

    @property
    def units(self) -> int:
        """How many units (ReLUs, pairs of MinMax, ...) there are."""
        return sum(stage.pre.rows for stage in self.stages)

    def maps(self) -> Iterator[Affine]:
        """All affine maps, in order."""
        for stage in self.stages:
            yield from (stage.pre, stage.skip, stage.gain)
        yield self.output

    @property
    def entries(self) -> int:
        """How many numbers all maps hold, zeros among them: what the arithmetic costs."""
        return sum(part.rows * part.columns for part in self.maps())

    @property
    def bits(self) -> int:
        """Bit length of the longest integer."""
        return max(part.bits for part in self.maps())

    def run(self, point: Sequence[Fraction]) -> Values:
        """Compute exactly at one point, (inputs,)."""
        state = Point.of(point)
        pre: list[Point] = []
        for stage in self.stages:
            pre.append(stage.pre(state))
            state = stage.skip(state) + stage.gain(pre[-1].relu())
        return Values(tuple(pre), self.output(state).fractions())

    def logits(self, point: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """The exact logits at one point."""
        return self.run(point).logits
