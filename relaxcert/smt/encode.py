"""SMT-LIB text for "is there a violation in this box?".

Units whose sign is known on the box become linear; each of the others gets one variable r and

    r >= 0,   r - z >= 0,   (r <= 0 or r - z <= 0),   r <= slope z + offset (the triangle)

where the last is redundant but keeps a simplex solver on course. Variables are scaled: an input is
middle + radius * d with d in [-1, 1], a unit is u * p with p in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxcert.smt.affine import Affine
from relaxcert.smt.bounds import Lines, lines_over
from relaxcert.smt.forms import Arithmetic, Row
from relaxcert.smt.formula import Atom, Constraint, Every, Some, without
from relaxcert.smt.query import Region
from relaxcert.smt.solver import Script

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cell:
    """One box with what is known on it.

    Attributes:
        middle, radius: the box, (inputs,).
        lower, upper: bounds of z for every stage, (units,) each.
        impossible: atoms that cannot hold on the box; they are left out.
    """

    middle: Floats
    radius: Floats
    lower: tuple[Floats, ...]
    upper: tuple[Floats, ...]
    impossible: frozenset[Atom] = frozenset()


@dataclass(frozen=True, slots=True)
class Encoded:
    """A script, and how to read an input from a model of it."""

    script: Script
    cell: Cell

    def point(self, model: dict[str, Fraction]) -> tuple[Fraction, ...]:
        """The x' of a model, exactly."""
        pairs = zip(self.cell.middle.tolist(), self.cell.radius.tolist(), strict=True)
        return tuple(
            Fraction(middle) + Fraction(radius) * model[f"d{place}"]
            for place, (middle, radius) in enumerate(pairs)
        )


def encode(
    arithmetic: Arithmetic,
    cell: Cell,
    region: Region,
    violation: Constraint,
    atoms: Sequence[Atom],
    rows: Affine,
    cuts: Sequence[Affine] = (),
) -> Encoded:
    """The script for one cell.

    Args:
        arithmetic: exact, or rounded outward (then only "unsat" is a proof).
        cell: the box, with bounds that hold on it.
        region: the exact region; what it cuts off the box is added (l2: by ``cuts``).
        violation: what is looked for, over ``atoms``, whose rows over the last state are ``rows``.
        cuts: x -> c(x), rows that are at least 0 on the region.
    """
    return _Encoder(arithmetic, cell, region).run(violation, atoms, rows, cuts)


class _Encoder:
    def __init__(self, arithmetic: Arithmetic, cell: Cell, region: Region) -> None:
        self.arithmetic: Any = arithmetic
        self.cell = cell
        self.region = region
        self.inputs = len(cell.middle)
        self.open = [
            np.nonzero((low < 0) & (high > 0))[0]
            for low, high in zip(cell.lower, cell.upper, strict=True)
        ]
        units = sum(len(places) for places in self.open)
        self.names = [f"d{i}" for i in range(self.inputs)] + [f"p{i}" for i in range(units)]
        self.with_l1 = region.ball is not None and region.ball.norm == "l1"
        if self.with_l1:
            self.names += [f"t{i}" for i in range(self.inputs)]
        self.lines: list[str] = ["(set-logic QF_LRA)"]

    def run(
        self,
        violation: Constraint,
        atoms: Sequence[Atom],
        rows: Affine,
        cuts: Sequence[Affine],
    ) -> Encoded:
        for name in self.names:
            low = "(- 1)" if name.startswith("d") else "0"
            self.lines.append(f"(declare-const {name} Real)")
            self.lines.append(f"(assert (<= {low} {name}))\n(assert (<= {name} 1))")
        state = self.arithmetic.variables(
            range(self.inputs), self.cell.radius, self.cell.middle, len(self.names)
        )
        self._region(state, cuts)
        first = self.inputs
        for place, stage in enumerate(self.arithmetic.stages):
            z = state.through(stage.pre)
            units = self._units(place, z, first)
            state = state.through(stage.skip).plus(units.through(stage.gain))
            first += len(self.open[place])
        values = state.through(self.arithmetic.layer(rows))
        left = without(violation, self.cell.impossible)
        self._assert("false" if left is None else self._formula(left, list(atoms), values))
        text = "\n".join(self.lines) + "\n"
        return Encoded(Script(text, tuple(self.names)), self.cell)

    def _region(self, inputs: Any, cuts: Sequence[Affine]) -> None:
        region = self.region
        beyond = [
            (i, bound, sign)
            for i in range(self.inputs)
            for bound, sign, over in self._box_side(i)
            if over
        ]
        for i, bound, sign in beyond:
            side = np.zeros((1, self.inputs))
            side[0, i] = sign
            form = inputs.through(self.arithmetic.layer(Affine.of(side))).shifted([-sign * bound])
            self._assert_row(form.row(0, above=True))
        for cut in cuts:
            form = inputs.through(self.arithmetic.layer(cut))
            for index in range(cut.rows):
                self._assert_row(form.row(index, above=True))
        if self.with_l1 and region.centre is not None and region.ball is not None:
            self._cross_polytope(inputs, region.centre, region.ball.eps)

    def _box_side(self, i: int) -> list[tuple[Fraction, int, bool]]:
        """The exact bounds of input i, and whether the cell reaches beyond them."""
        middle, radius = Fraction(self.cell.middle[i]), Fraction(self.cell.radius[i])
        low, high = self.region.lower[i], self.region.upper[i]
        return [(low, 1, middle - radius < low), (high, -1, middle + radius > high)]

    def _cross_polytope(self, inputs: Any, centre: Sequence[Fraction], eps: Fraction) -> None:
        """eps t_i >= |x_i - c_i|, sum of t_i <= 1."""
        count, total = self.inputs, len(self.names)
        columns = range(total - count, total)
        ones, zeros = np.ones(count), np.zeros(count)
        share = self.arithmetic.variables(columns, ones, zeros, total)
        factor = self.arithmetic.layer(Affine.identity(count).scaled(eps))
        share = share.through(factor)
        offset = inputs.shifted([-value for value in centre])
        for sign in (-1.0, 1.0):
            forms = share.plus(offset.times(np.full(count, sign)))
            for index in range(count):
                self._assert_row(forms.row(index, above=True))
        self._assert_row((tuple((column, -1) for column in columns), 1))

    def _units(self, place: int, z: Any, first: int) -> Any:
        """The forms of r: 0, z or a variable of its own, which is tied to z."""
        low, high, opened = self.cell.lower[place], self.cell.upper[place], self.open[place]
        columns = np.full(len(low), -1)
        columns[opened] = np.arange(first, first + len(opened))
        scale = np.where(columns >= 0, high, 0.0)
        variable = self.arithmetic.variables(
            columns.tolist(), scale, np.zeros(len(low)), len(self.names)
        )
        if len(opened):
            self._tie(z, variable, lines_over(low[None], high[None]), opened, columns)
        return variable.plus(z.times((low >= 0).astype(np.float64)))

    def _tie(
        self, z: Any, variable: Any, lines: Lines, opened: NDArray[Any], columns: NDArray[Any]
    ) -> None:
        above = variable.plus(z.times(np.full(len(columns), -1.0)))  # r - z
        slope, offset = lines.upper_slope[0], lines.upper_offset[0]
        moved = [Fraction(value) for value in np.where(np.isfinite(offset), offset, 0.0)]
        below = z.times(slope).shifted(moved).plus(variable.times(np.full(len(columns), -1.0)))
        for unit in opened.tolist():
            self._assert_row(above.row(unit, above=True))
            self._assert_row(below.row(unit, above=True))
            on = _text(above.row(unit, above=False), self.names, "<=")
            self.lines.append(f"(assert (or (<= {self.names[columns[unit]]} 0) {on}))")

    def _formula(self, constraint: Constraint, atoms: list[Atom], values: Any) -> str:
        match constraint:
            case Atom():
                return _text(values.row(atoms.index(constraint), above=True), self.names, ">=")
            case Every(parts):
                inner = [self._formula(part, atoms, values) for part in parts]
                return f"(and {' '.join(inner)})" if inner else "true"
            case Some(parts):
                inner = [self._formula(part, atoms, values) for part in parts]
                return f"(or {' '.join(inner)})" if inner else "false"

    def _assert_row(self, row: Row | None) -> None:
        if row is not None:  # a row without a bound says nothing
            self._assert(_text(row, self.names, ">="))

    def _assert(self, text: str) -> None:
        self.lines.append(f"(assert {text})")


def _text(row: Row | None, names: Sequence[str], relation: str) -> str:
    """A row as an SMT-LIB term, ``sum (>= or <=) 0``; true where it has no bound."""
    if row is None:
        return "true"
    entries, constant = row
    terms = [f"(* {_number(weight)} {names[i]})" for i, weight in entries]
    total = f"(+ {' '.join(terms)} 0)" if terms else "0"
    return f"({relation} {total} {_number(-constant)})"


def _number(value: int) -> str:
    return str(value) if value >= 0 else f"(- {-value})"
