"""Linear forms over the variables of a solver problem, exact or rounded outward.

The variables are the inputs and one number for each unit whose side of 0 is open. All other values
are linear forms in them. ``ExactForms`` keep rationals: faithful, with numbers as long as the
network is deep. ``RoundedForms`` keep float64 weights with a bound of the error of each form, and
yield rows of short integers, which keep a simplex solver fast; what they prove is proved, and a
model of theirs is only a guess.

A row is ``sum of weight * variable + constant >= 0`` in integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxcert.smt.affine import Affine, Point, integers_of
from relaxcert.smt.float_network import FloatMap, FloatNetwork
from relaxcert.smt.network import ExactNetwork

Floats = NDArray[np.float64]
Row = tuple[tuple[tuple[int, int], ...], int]
_INFLATE = 1.0 + 2.0**-20
_TINY = 1e-250


@dataclass(frozen=True, slots=True)
class RoundedForms:
    """``|value - (matrix v + constant)| <= error`` for all variables v within [-1, 1].

    Attributes:
        matrix, constant, error: (forms, variables), (forms,), (forms,).
        gamma: covers the rounding of the sums that made them.
        bits: length of the integers in rows.
    """

    matrix: Floats
    constant: Floats
    error: Floats
    gamma: float
    bits: int

    def through(self, layer: FloatMap) -> RoundedForms:
        """The forms of ``layer`` applied to these."""
        size = np.abs(self.matrix).sum(1) + np.abs(self.constant)
        lost = layer.size @ size + layer.offset_size
        error = (layer.size @ self.error + self.gamma * lost) * _INFLATE + _TINY
        return RoundedForms(
            layer.matrix @ self.matrix,
            layer.matrix @ self.constant + layer.offset,
            error,
            self.gamma,
            self.bits,
        )

    def plus(self, other: RoundedForms) -> RoundedForms:
        """The sums of these forms and ``other``, one by one."""
        matrix, constant = self.matrix + other.matrix, self.constant + other.constant
        size = np.abs(matrix).sum(1) + np.abs(constant)
        error = (self.error + other.error + self.gamma * size) * _INFLATE + _TINY
        return RoundedForms(matrix, constant, error, self.gamma, self.bits)

    def times(self, factors: Floats) -> RoundedForms:
        """Each form times a number of its own."""
        size = np.abs(factors) * (np.abs(self.matrix).sum(1) + np.abs(self.constant))
        error = (np.abs(factors) * self.error + self.gamma * size) * _INFLATE + _TINY
        matrix = self.matrix * factors[:, None]
        return RoundedForms(matrix, self.constant * factors, error, self.gamma, self.bits)

    def shifted(self, offset: Sequence[Fraction]) -> RoundedForms:
        """Each form plus a number of its own."""
        moved = np.array([float(value) for value in offset])
        constant = self.constant + moved
        lost = np.abs(constant) + np.abs(moved)
        error = (self.error + self.gamma * lost) * _INFLATE + _TINY
        return RoundedForms(self.matrix, constant, error, self.gamma, self.bits)

    def row(self, index: int, *, above: bool) -> Row | None:
        """Integers that stay above (or below) a positive multiple of the form; None: no bound."""
        weights, constant = self.matrix[index], float(self.constant[index])
        scale = float(np.abs(weights).max(initial=0.0))
        scale = max(scale, abs(constant) * 2.0**-30, 1e-200)
        factor = 2.0**self.bits / scale
        scaled, shift = weights * factor, constant * factor
        lost = float(self.error[index]) * factor
        if not (np.isfinite(scaled).all() and math.isfinite(shift) and math.isfinite(lost)):
            return None
        whole = np.rint(scaled)
        # Rounding to integers, the factor itself, and this sum: all far below what is added.
        lost += (
            float(np.abs(scaled - whole).sum())
            + (abs(shift) + float(np.abs(whole).sum())) * (len(weights) + 16) * 2.0**-52
        )
        margin = math.ceil(lost * _INFLATE) + 1
        entries = tuple((int(i), int(whole[i])) for i in np.nonzero(whole)[0])
        return entries, round(shift) + (margin if above else -margin)


@dataclass(frozen=True, slots=True)
class ExactForms:
    """The forms as an affine map of the variables, over the rationals."""

    value: Affine

    def through(self, layer: Affine) -> ExactForms:
        """The forms of ``layer`` applied to these."""
        return ExactForms(layer @ self.value)

    def plus(self, other: ExactForms) -> ExactForms:
        """The sums of these forms and ``other``, one by one."""
        return ExactForms(self.value + other.value)

    def times(self, factors: Floats) -> ExactForms:
        """Each form times a number of its own."""
        whole, common = integers_of(factors)
        value = self.value
        matrix, offset = value.matrix * whole[:, None], value.offset * whole
        return ExactForms(Affine(matrix, offset, value.denominator * common).reduced())

    def shifted(self, offset: Sequence[Fraction]) -> ExactForms:
        """Each form plus a number of its own."""
        moved = Point.of(offset)
        zeros = np.full(self.value.matrix.shape, 0, dtype=object)
        return ExactForms(self.value + Affine(zeros, moved.numerators, moved.denominator))

    def row(self, index: int, *, above: bool) -> Row | None:
        """The form times its denominator; exact, so above and below are the same."""
        del above
        weights = self.value.matrix[index]
        divisor = math.gcd(int(self.value.offset[index]), *(int(w) for w in weights)) or 1
        entries = tuple((int(i), int(weights[i]) // divisor) for i in np.nonzero(weights)[0])
        return entries, int(self.value.offset[index]) // divisor


@dataclass(frozen=True, slots=True)
class RoundedArithmetic:
    """Makes rounded forms; ``stages`` of the network in float64."""

    network: FloatNetwork
    bits: int

    @property
    def stages(self) -> Sequence[Any]:
        """The layers that forms go through."""
        return self.network.stages

    def layer(self, exact: Affine) -> FloatMap:
        """An exact map as forms of this kind take it."""
        return FloatMap.of(exact)

    def variables(
        self, columns: Sequence[int], scale: Floats, offset: Floats, total: int
    ) -> RoundedForms:
        """``offset + scale * variable``, one form for each column given; -1 for offset alone."""
        matrix = np.zeros((len(columns), total))
        chosen = [place for place, column in enumerate(columns) if column >= 0]
        matrix[chosen, [columns[place] for place in chosen]] = scale[chosen]
        error = np.zeros(len(columns))
        return RoundedForms(matrix, offset, error, self.network.gamma, self.bits)


@dataclass(frozen=True, slots=True)
class ExactArithmetic:
    """Makes exact forms; ``stages`` of the exact network."""

    network: ExactNetwork

    @property
    def stages(self) -> Sequence[Any]:
        """The layers that forms go through."""
        return self.network.stages

    def layer(self, exact: Affine) -> Affine:
        """An exact map as forms of this kind take it."""
        return exact

    def variables(
        self, columns: Sequence[int], scale: Floats, offset: Floats, total: int
    ) -> ExactForms:
        """``offset + scale * variable``, one form for each column given; -1 for offset alone."""
        matrix = np.zeros((len(columns), total))
        chosen = [place for place, column in enumerate(columns) if column >= 0]
        matrix[chosen, [columns[place] for place in chosen]] = scale[chosen]
        return ExactForms(Affine.of(matrix, offset))


Arithmetic = RoundedArithmetic | ExactArithmetic
Forms = RoundedForms | ExactForms
