"""What one worker does: judge some points and give plain records back.

Records are what is written as JSON lines: plain data, exact numbers as texts ``"n/d"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from relaxcert.errors import RelaxcertError
from relaxcert.smt.audit import audit
from relaxcert.smt.formula import atoms_of, violation_of
from relaxcert.smt.judge import Evidence, Judgement, PointJudge
from relaxcert.smt.network import ExactNetwork
from relaxcert.smt.query import Budget, Region
from relaxcert.smt.solver import Solver, solver_named
from relaxcert.spec.ball import Ball, format_eps
from relaxcert.spec.formula import AllOf, AnyOf, Formula, Throughout
from relaxcert.spec.property import Property

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One point to judge.

    Attributes:
        index: its place in the data.
        point: x, (inputs,), the exact values of these floats; None if it is not finite.
        certified, margin, radius: what the head said.
        logits: as torch computed them in float64.
        eps: judge the property on balls of this radius (a ratio as text) instead of its own.
        candidates: points x' that an attack found.
        audited: whether the judge itself is to be audited here.
    """

    index: int
    point: tuple[float, ...] | None
    certified: bool
    margin: float
    radius: float
    logits: tuple[float, ...]
    eps: str | None = None
    candidates: tuple[tuple[float, ...], ...] = ()
    audited: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """Some tasks with all that is needed for them."""

    network: ExactNetwork
    prop: Property
    solver: str | Solver
    budget: Budget
    tasks: tuple[Task, ...]


def work(job: Job) -> list[Record]:
    """Judge every task of a job; one record a point. Runs in any process."""
    return [_one(job, task) for task in job.tasks]


def _one(job: Job, task: Task) -> Record:
    record: Record = {
        "index": task.index,
        "certified": task.certified,
        "margin": _number(task.margin),
        "radius": _number(task.radius),
        "eps": task.eps,
    }
    if task.point is None:
        return {**record, **_outcome("unknown", "the input is not finite", task.certified, "")}
    point = tuple(map(Fraction, task.point))
    prop = job.prop if task.eps is None else job.prop.with_eps(task.eps)
    candidates = [tuple(map(Fraction, candidate)) for candidate in task.candidates]
    solver = solver_named(job.solver)
    try:
        judge = PointJudge(job.network, point, job.budget, solver, candidates)
        judgement = judge.judge(prop)
        fault = _audited(job, prop, task, judgement, solver) if task.audited else ""
    except RelaxcertError as error:
        # A fault of encoder or solver is a finding about this point, not the end of the run.
        return {**record, **_outcome("unknown", str(error), task.certified, str(error))}
    verdict = judgement.verdict
    return {
        **record,
        **_outcome(verdict.answer.value, verdict.reason, task.certified, fault),
        "ranking": list(judgement.ranking.order),
        "tied": sorted(judgement.ranking.tied),
        "evidence": [_evidence(found) for found in judgement.evidence],
        "boxes": judgement.effort.boxes,
        "solver_calls": judgement.effort.solver_calls,
        "seconds": round(judgement.seconds, 6),
    }


def _outcome(answer: str, reason: str, certified: bool, fault: str) -> Record:
    """The solver's answer, and whether it and the head's are consistent."""
    if certified and answer == "falsified":
        finding = "violation"
    elif fault:
        finding = "fault"
    else:
        finding = "consistent"
    return {"answer": answer, "reason": reason, "finding": finding, "fault": fault}


def _audited(job: Job, prop: Property, task: Task, judgement: Judgement, solver: Solver) -> str:
    formula = prop.formula(judgement.ranking)
    for ball, body in _balls(formula):
        if task.point is not None:
            region = Region.around(tuple(map(Fraction, task.point)), ball)
            atoms = atoms_of(violation_of(body))
            fault = audit(job.network, region, atoms, task.logits, solver, seed=task.index)
            if fault:
                return fault
    return ""


def _balls(formula: Formula) -> Sequence[tuple[Ball, Formula]]:
    """One ``Throughout`` of each ball."""
    found: dict[Ball, Formula] = {}

    def visit(part: Formula) -> None:
        if isinstance(part, Throughout):
            found.setdefault(part.ball, part.body)
        elif isinstance(part, AllOf | AnyOf):
            for child in part.parts:
                visit(child)

    visit(formula)
    return tuple(found.items())


def _evidence(found: Evidence) -> Record:
    ball = found.ball
    return {
        "norm": None if ball is None else ball.norm,
        "eps": None if ball is None else format_eps(ball.eps),
        "witness": [str(value) for value in found.witness],
        "logits": [float(value) for value in found.logits],
    }


def _number(value: float) -> float | str:
    """JSON has no infinities and no NaN: as texts, which ``float`` reads back."""
    return value if value - value == 0 else str(value)
