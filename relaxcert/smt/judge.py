"""Judging a property at one point: from its formula to queries, with what was learnt kept.

The ranking at x is exact, ties included. Where the formula has several balls or several k (uniform
order), each ``Throughout`` is one query; atoms that were proved impossible and witnesses that were
found serve all of them, so that each "class i can reach class j" is decided once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from relaxcert.errors import InvalidInput
from relaxcert.smt.branch import Effort, decide
from relaxcert.smt.deviation import Enclosed, logits_at
from relaxcert.smt.formula import Atom, Constraint, Some, holds, violation_of, without
from relaxcert.smt.network import ExactNetwork
from relaxcert.smt.query import Budget, Clock, Exact, Query, Region
from relaxcert.smt.solver import Solver, solver_named
from relaxcert.spec.ball import Ball
from relaxcert.spec.formula import AllOf, AnyOf, Formula, Throughout
from relaxcert.spec.property import Property
from relaxcert.spec.ranking import Ranking
from relaxcert.spec.verdict import CERTIFIED, Answer, Verdict, falsified, unknown


@dataclass(frozen=True, slots=True)
class Evidence:
    """One x' and what it breaks: in ``ball``, the body that should hold throughout.

    Attributes:
        ball: None if the property fails at x itself, whatever the ball.
        witness: the x', exact.
        logits: the logits there: exact, or next to the true ones where a BatchNorm's scale is
            irrational; the violation holds for the true ones.
    """

    ball: Ball | None
    witness: Exact
    logits: Exact


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one point.

    Attributes:
        verdict: as always three-valued.
        evidence: for FALSIFIED: everything that it takes, one entry for each broken part (a
            uniform property is broken by breaking every admissible k, each at an x' of its own).
        ranking, logits: at x, exact.
        effort: boxes and solver calls that this verdict took.
        seconds: CPU time of this process.
    """

    verdict: Verdict
    evidence: tuple[Evidence, ...]
    ranking: Ranking
    logits: Exact
    effort: Effort
    seconds: float


def judge(
    network: ExactNetwork,
    point: Sequence[Fraction],
    prop: Property,
    *,
    budget: Budget | float | str = 10.0,
    solver: str | Solver = "z3",
    candidates: Iterable[Exact] = (),
) -> Judgement:
    """Decide a property at one exact point, (inputs,).

    Args:
        network: the exact network.
        point: x.
        prop: any property, composed or not.
        budget: for the whole point.
        solver: a backend or its name.
        candidates: points x' to try first, for instance an attack's; checked exactly.

    Raises:
        InvalidInput: a budget of 0, an unknown solver, a point of another size.
        InvalidProperty: the property does not fit the number of classes.
        EncodingFault: encoder or solver contradict exact evaluation.
    """
    prop.check(network.classes)
    return PointJudge(network, point, budget, solver, candidates).judge(prop)


class PointJudge:
    """One point, judged for as many properties as wanted within one budget."""

    def __init__(
        self,
        network: ExactNetwork,
        point: Sequence[Fraction],
        budget: Budget | float | str = 10.0,
        solver: str | Solver = "z3",
        candidates: Iterable[Exact] = (),
    ) -> None:
        if len(point) != network.inputs:
            raise InvalidInput(
                f"the point has {len(point)} numbers, the network takes {network.inputs}."
            )
        self.network = network
        self.point = tuple(Fraction(value) for value in point)
        self.solver = solver_named(solver)
        self.clock = Clock(Budget.of(budget))
        here = logits_at(network, self.point)
        self.undecided = _undecided(here)
        self.logits = network.logits(self.point) if here is None else here.values
        self.ranking = Ranking.of(self.logits)
        self.seen: dict[Exact, Enclosed | None] = {self.point: here}
        for candidate in candidates:
            self.seen[candidate] = logits_at(network, candidate)
        self.impossible: dict[Ball, set[Atom]] = {}
        self.effort = Effort()

    def renew(self, budget: Budget | float | str) -> None:
        """A fresh budget for what is judged from now on."""
        self.clock = Clock(Budget.of(budget))

    def judge(self, prop: Property) -> Judgement:
        """The verdict on ``prop``; what was learnt before is used."""
        started = time.process_time()
        self.effort = Effort()
        if self.undecided:
            verdict, evidence = unknown(self.undecided), ()
        else:
            verdict, evidence = self._formula(prop.formula(self.ranking))
        seconds = time.process_time() - started
        effort = replace(self.effort)
        return Judgement(verdict, evidence, self.ranking, self.logits, effort, seconds)

    def _formula(self, formula: Formula) -> tuple[Verdict, tuple[Evidence, ...]]:
        match formula:
            case Throughout(ball, body):
                return self._throughout(ball, violation_of(body))
            case AllOf(parts):
                return self._combine(parts, Answer.FALSIFIED, CERTIFIED)
            case AnyOf(()):
                # Nothing may serve: the property fails at x already.
                here = Evidence(None, self.point, self.logits)
                return falsified(self.point), (here,)
            case AnyOf(parts):
                return self._combine(parts, Answer.CERTIFIED, None)
            case _:
                raise InvalidInput("Beats needs a Throughout around it to be judged on a ball.")

    def _combine(
        self, parts: Sequence[Formula], decisive: Answer, otherwise: Verdict | None
    ) -> tuple[Verdict, tuple[Evidence, ...]]:
        """One decisive part decides; if all parts are the opposite, so is the whole."""
        doubt: Verdict | None = None
        evidence: list[Evidence] = []
        for part in parts:
            verdict, found = self._formula(part)
            if verdict.answer is decisive:
                return verdict, found
            if verdict.answer is Answer.UNKNOWN:
                doubt = verdict if doubt is None else doubt
            evidence += found
        if doubt is not None:
            return doubt, ()
        if otherwise is not None:
            return otherwise, ()
        return falsified(evidence[0].witness), tuple(evidence)

    def _throughout(
        self, ball: Ball, violation: Constraint
    ) -> tuple[Verdict, tuple[Evidence, ...]]:
        region = Region.around(self.point, ball)
        for witness, logits in self.seen.items():
            known = logits is not None and holds(violation, logits.values, logits.doubt)
            if logits is not None and known and region.contains(witness):
                return falsified(witness), (Evidence(ball, witness, logits.values),)
        left = without(violation, self._impossible_in(ball))
        if left is None:
            return CERTIFIED, ()
        if self.clock.up:
            return unknown(f"timeout: {self.clock.budget.seconds:g} s were not enough"), ()
        budget = replace(self.clock.budget, seconds=max(self.clock.left, 1e-3))
        query = Query(self.network, region, left)
        verdict = decide(query, budget, self.solver, effort=self.effort)
        if verdict.answer is Answer.CERTIFIED:
            self.impossible.setdefault(ball, set()).update(_refuted(left))
        if verdict.witness is not None:
            logits = logits_at(self.network, verdict.witness)
            self.seen[verdict.witness] = logits
            values = () if logits is None else logits.values
            return verdict, (Evidence(ball, verdict.witness, values),)
        return verdict, ()

    def _impossible_in(self, ball: Ball) -> set[Atom]:
        """What is impossible in a ball is so in each smaller one."""
        larger = [b for b in self.impossible if b.norm == ball.norm and b.eps >= ball.eps]
        return set[Atom]().union(*(self.impossible[b] for b in larger))


def _undecided(logits: Enclosed | None) -> str:
    """Why the ranking at x is not known, if it is not."""
    if logits is None:
        return "size: no finite bound of the distance to the true network"
    pair = logits.undecided()
    if pair is None:
        return ""
    return (
        f"the logits of classes {pair[0]} and {pair[1]} at x are so near that irrational scales "
        "(BatchNorm) hide their order"
    )


def _refuted(violation: Constraint) -> set[Atom]:
    """The atoms that are impossible where the violation is: each alternative by itself."""
    parts = violation.parts if isinstance(violation, Some) else (violation,)
    return {part for part in parts if isinstance(part, Atom)}
