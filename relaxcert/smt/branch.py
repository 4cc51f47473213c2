"""Deciding a query by branch and bound over its region.

On each box bounds are computed; a box in which no violation is possible is done. Where few units
are open the solver is asked; other boxes are cut in two across the input that moves the violation
most. Witnesses come from a search beforehand, from the boxes' own extreme points, and from the
solver; each is checked exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxcert.smt.bounds import Bounds, bounds_over
from relaxcert.smt.encode import Cell
from relaxcert.smt.leaf import LeafAnswer, ask
from relaxcert.smt.local import tree_value
from relaxcert.smt.problem import Problem
from relaxcert.smt.query import Budget, Clock, Exact, Query
from relaxcert.smt.search import into_region, search
from relaxcert.smt.size import too_long
from relaxcert.smt.solver import Solver, solver_named
from relaxcert.smt.support import Boxes
from relaxcert.spec.verdict import CERTIFIED, Verdict, falsified, unknown

Floats = NDArray[np.float64]
_BATCH = 64  # boxes bounded at a time
_MANY_BOXES = 4000  # after so many, cutting does not seem to help


@dataclass(slots=True)
class Effort:
    """What a decision took."""

    boxes: int = 0
    solver_calls: int = 0


def decide(
    query: Query,
    budget: Budget | float | str = 10.0,
    solver: str | Solver = "z3",
    *,
    effort: Effort | None = None,
) -> Verdict:
    """Is there an x' in the region that fulfils the violation?

    CERTIFIED: there is none, proved. FALSIFIED: with an exact witness. UNKNOWN: with the limit that
    was hit.

    Args:
        query: the question.
        budget: wall time, boxes and solver work; seconds or a text such as ``"10s"`` will do.
        solver: a backend or its name.
        effort: counts what it took, if given.

    Raises:
        InvalidInput: a budget of 0, an unknown solver.
        EncodingFault: encoder or solver contradict exact evaluation.
    """
    limits = Budget.of(budget)
    backend = solver_named(solver)
    reason = too_long(query.network)
    if reason is not None:
        return unknown(reason)
    if query.possible is None:
        return unknown("size: no finite bound of the distance to the true network")
    return Branching(Problem(query), Clock(limits), backend, effort or Effort()).run()


class Branching:
    """One run of branch and bound."""

    def __init__(self, problem: Problem, clock: Clock, solver: Solver, effort: Effort) -> None:
        self.problem, self.clock, self.solver, self.effort = problem, clock, solver, effort
        self.pending: list[tuple[Boxes, Bounds | None]] = []
        self.undecided = ""
        self.least = 2.0**-40 * float(problem.half.max(initial=0.0))

    def run(self) -> Verdict:
        """Search the whole region."""
        self.pending = [(Boxes.around(self.problem.query.region), None)]
        first = True
        while self.pending:
            if self.clock.up:
                return unknown(f"timeout: {self.clock.budget.seconds:g} s were not enough")
            if self.effort.boxes >= self.clock.budget.boxes:
                return unknown(f"boxes: {self.clock.budget.boxes} were not enough")
            boxes, bounds = self._bounded(*self._next())
            if not len(boxes.lower):
                continue
            if first:
                first = False
                witness = search(self.problem)
                if witness is not None:
                    return falsified(witness)
            witness = self._treat(boxes, bounds)
            if witness is not None:
                return falsified(witness)
        return unknown(self.undecided) if self.undecided else CERTIFIED

    def _next(self) -> tuple[Boxes, Bounds | None]:
        boxes, known = self.pending.pop()
        if len(boxes.lower) <= _BATCH:
            return boxes, known
        rest, now = slice(0, -_BATCH), slice(-_BATCH, None)
        self.pending.append((boxes.take(rest), None if known is None else known.take(rest)))
        return boxes.take(now), None if known is None else known.take(now)

    def _bounded(self, boxes: Boxes, known: Bounds | None) -> tuple[Boxes, Bounds]:
        """Bounds of the boxes in which a violation is still possible."""
        problem = self.problem
        bounds = bounds_over(problem.network, boxes, problem.float_rows, known)
        self.effort.boxes += len(boxes.lower)
        alive = ~(problem.impossible(bounds.highest) | boxes.outside())
        return boxes.take(alive), bounds.take(alive)

    def _treat(self, boxes: Boxes, bounds: Bounds) -> Exact | None:
        """Look for witnesses, ask the solver about easy boxes, cut the others."""
        weights = self._steepest(boxes, bounds)
        extreme = boxes.middle + np.sign(weights) * boxes.radius
        points = into_region(self.problem, np.concatenate([boxes.middle, extreme]))
        witness = self.problem.first_witness(points)
        if witness is not None:
            return witness
        wide = boxes.radius.max(1) > self.least
        easy = (bounds.unstable() <= self._few_open()) | ~wide
        cut = ~easy
        for place in np.nonzero(easy)[0].tolist():
            if self.clock.up:
                cut[place] = True  # what is cut stays pending: time that is up is no proof
                continue
            answer = self._ask(boxes, bounds, place, divisible=bool(wide[place]))
            if answer.witness is not None:
                return answer.witness
            if not answer.proved and wide[place]:
                cut[place] = True
            elif not answer.proved:
                self.undecided = answer.reason or "unknown"
        if cut.any():
            mass = np.abs(weights) * boxes.radius
            # Where nothing is known of the masses, the widest side.
            mass = np.where(np.isfinite(mass), mass, 0.0) + 1e-9 * boxes.radius
            halves = boxes.take(cut).split(mass[cut].argmax(1))
            self.pending.append((halves, bounds.take(cut).twice()))
        return None

    def _few_open(self) -> int:
        """With so few open units a box goes to the solver.

        A box costs a tenth of a millisecond, a solver call a hundred times that. So where inputs
        are few, boxes are cut until all units are settled; the solver is for boxes that stay open
        however small they get. Cutting many inputs leads nowhere: there it cuts units instead.
        """
        inputs = self.problem.query.network.inputs
        if inputs > 12:
            return 60
        few = 1 if inputs <= 6 else 6
        return few if self.effort.boxes < _MANY_BOXES else 12

    def _steepest(self, boxes: Boxes, bounds: Bounds) -> Floats:
        """For each box the input weights of the atom that keeps it alive, (boxes, inputs)."""
        if not self.problem.atoms:
            return np.zeros_like(boxes.middle)
        violation, place = self.problem.violation, self.problem.index.__getitem__
        _, atom = tree_value(violation, bounds.highest, place)
        return bounds.weights[np.arange(len(atom)), atom]

    def _ask(self, boxes: Boxes, bounds: Bounds, place: int, *, divisible: bool) -> LeafAnswer:
        atoms = self.problem.atoms
        cell = Cell(
            boxes.middle[place],
            boxes.radius[place],
            tuple(low[place] for low in bounds.lower),
            tuple(high[place] for high in bounds.upper),
            frozenset(a for a, high in zip(atoms, bounds.highest[place], strict=True) if high < 0),
        )
        if not all(np.isfinite(values).all() for values in (*cell.lower, *cell.upper)):
            return LeafAnswer(reason="no finite bounds: the numbers are beyond float64")
        self.effort.solver_calls += 1
        return ask(self.problem, cell, self.solver, self.clock, divisible=divisible)
