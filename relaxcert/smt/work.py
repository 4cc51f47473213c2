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
class Claim:
    """What a head says about one property at one point.

    Attributes:
        certified, margin, radius: its certificate.
        eps: judge the property on balls of this radius (a ratio as text) instead of its own.
    """

    certified: bool
    margin: float
    radius: float
    eps: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One point to judge.

    Attributes:
        index: its place in the data.
        point: x, (inputs,), the exact values of these floats; None if it is not finite.
        claims: one for each property of the job.
        logits: as torch computed them in float64.
        candidates: points x' that attacks found.
        audited: whether the judge itself is to be audited here.
    """

    index: int
    point: tuple[float, ...] | None
    claims: tuple[Claim, ...]
    logits: tuple[float, ...]
    candidates: tuple[tuple[float, ...], ...] = ()
    audited: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """Some tasks with all that is needed for them; ``budget`` is for each property of a point."""

    network: ExactNetwork
    props: tuple[Property, ...]
    solver: str | Solver
    budget: Budget
    tasks: tuple[Task, ...]


def work(job: Job) -> list[Record]:
    """Judge every task of a job: one record for each point and property. Runs in any process."""
    return [record for task in job.tasks for record in _point(job, task)]


def _point(job: Job, task: Task) -> list[Record]:
    """All properties at one point, by one judge: what it learns serves them all."""
    solver = solver_named(job.solver)
    judge: PointJudge | None = None
    records: list[Record] = []
    for place, (prop, claim) in enumerate(zip(job.props, task.claims, strict=True)):
        judged = prop if claim.eps is None else prop.with_eps(claim.eps)
        record: Record = {
            "index": task.index,
            "property": place,
            "certified": claim.certified,
            "margin": _number(claim.margin),
            "radius": _number(claim.radius),
            "eps": claim.eps,
        }
        try:
            if task.point is not None and judge is None:
                judge = _judge_of(job, task, solver)
            answered = _judged(job, task, claim, judged, judge, solver)
        except RelaxcertError as error:
            # A fault of encoder or solver is a finding about this point, not the end of the run.
            answered = _outcome("unknown", str(error), claim.certified, str(error))
        records.append({**record, **answered})
    return records


def _judge_of(job: Job, task: Task, solver: Solver) -> PointJudge:
    point = tuple(map(Fraction, task.point or ()))
    candidates = [tuple(map(Fraction, candidate)) for candidate in task.candidates]
    return PointJudge(job.network, point, job.budget, solver, candidates)


def _judged(
    job: Job, task: Task, claim: Claim, prop: Property, judge: PointJudge | None, solver: Solver
) -> Record:
    if judge is None:
        return _outcome("unknown", "the input is not finite", claim.certified, "")
    judge.renew(job.budget)
    judgement = judge.judge(prop)
    fault = _audited(job, prop, task, judgement, solver) if task.audited else ""
    verdict = judgement.verdict
    return {
        **_outcome(verdict.answer.value, verdict.reason, claim.certified, fault),
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
