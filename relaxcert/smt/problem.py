"""A query made ready: its atoms as rows, exact and in float64, and the exact check of witnesses."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from relaxcert.smt.affine import Affine
from relaxcert.smt.float_network import FloatMap, FloatNetwork
from relaxcert.smt.formula import Atom, Constraint, Every, atoms_of
from relaxcert.smt.local import row_values, tree_value
from relaxcert.smt.network import ExactNetwork
from relaxcert.smt.query import Exact, Query

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
_INSIDE = 1.0 - 2.0**-40  # draws a float point into the ball by more than its rounding


class Problem:
    """What the parts of the search share."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.network = float_network(query.network)
        # What is looked for: holds at least wherever the true network violates.
        self.violation: Constraint = Every(()) if query.possible is None else query.possible
        self.atoms = atoms_of(self.violation)
        self.index = {atom: place for place, atom in enumerate(self.atoms)}
        self.rows = rows_of(self.atoms, query.network)
        self.float_rows = FloatMap.of(self.rows)
        region = query.region
        self.middle = np.array([float(value) for value in region.middle])
        self.half = np.array(
            [float(b - a) / 2 for a, b in zip(region.lower, region.upper, strict=True)]
        )

    def nearness(self, points: Floats) -> Floats:
        """How nearly each point violates, in float64: at least 0 where it seems to."""
        with np.errstate(all="ignore"):
            values = row_values(self.network, self.float_rows, points)
            return tree_value(self.violation, values, self.index.__getitem__)[0]

    def impossible(self, highest: Floats) -> Flags:
        """The boxes in which the violation cannot hold, given upper bounds of the atoms."""
        return ~_possible(self.violation, highest >= 0, self.index)

    def witness_near(self, point: Floats) -> Exact | None:
        """The float point itself or, from outside the ball, drawn in: if it is a witness."""
        for candidate in (point, self.middle + (point - self.middle) * _INSIDE):
            if np.isfinite(candidate).all():
                exact = tuple(map(Fraction, candidate.tolist()))
                if self.query.broken_by(exact):
                    return exact
        return None

    def witness_at(self, point: Sequence[Fraction]) -> Exact | None:
        """An exact point, rounded to float64 if that is a witness too, else as it is."""
        rounded = self.witness_near(np.array([float(value) for value in point]))
        if rounded is not None:
            return rounded
        return tuple(point) if self.query.broken_by(point) else None

    def first_witness(self, points: Floats) -> Exact | None:
        """The first witness among points that seem to violate, the most violating first."""
        scores = self.nearness(points)
        for place in np.argsort(-scores)[:4]:
            if scores[place] >= -1e-9 * (1.0 + abs(scores[place])):
                found = self.witness_near(points[place])
                if found is not None:
                    return found
        return None


def rows_of(atoms: Sequence[Atom], network: ExactNetwork) -> Affine:
    """The atoms as exact rows over the last state: (atoms, state)."""
    if not atoms:
        return Affine.zero(0, network.output.columns)
    weights = [dict(atom.weights) for atom in atoms]
    rows = [[row.get(c, Fraction(0)) for c in range(network.classes)] for row in weights]
    exact = Affine.from_fractions(rows, [atom.constant for atom in atoms])
    return exact @ network.output


@lru_cache(maxsize=8)
def float_network(network: ExactNetwork) -> FloatNetwork:
    """The float64 form of a network, made once."""
    return FloatNetwork.of(network)


def _possible(constraint: Constraint, possible: Flags, index: dict[Atom, int]) -> Flags:
    if isinstance(constraint, Atom):
        return possible[:, index[constraint]]
    every = isinstance(constraint, Every)
    result = np.full(len(possible), every)
    for part in constraint.parts:
        inner = _possible(part, possible, index)
        result = result & inner if every else result | inner
    return result
