"""``crosscheck``: certificates judged by a solver that knows nothing of them.

For every point the head's verdict and the solver's stand side by side. A point that the head
certifies and the solver falsifies is a soundness violation. The solver's problem is made from the
exact weights alone; none of the Lipschitz bounds enter it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import median

import numpy as np
from torch import Tensor

from relaxcert.attacks import attack
from relaxcert.errors import InvalidInput, InvalidProperty
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.verified import fingerprint
from relaxcert.smt.fanout import cluster, processes, spread
from relaxcert.smt.query import Budget
from relaxcert.smt.records import Record, Records
from relaxcert.smt.solver import Solver, solver_named
from relaxcert.smt.translate import exact_network
from relaxcert.smt.work import Job, Task, work
from relaxcert.spec.canonical import canonical_json, digest
from relaxcert.spec.property import Property

_CHUNK = 8  # points a job: small enough to spread, large enough to pay for the trip


@dataclass(frozen=True)
class CrossCheck:
    """What a cross-check found, one record a point, ordered by index.

    A record has ``index``; the head's ``certified``, ``margin`` and ``radius``; ``eps``, the radius
    that was judged if it is not the property's own; the solver's ``answer`` (certified, falsified,
    unknown) with its ``reason``; ``finding``: consistent, violation (certified and falsified) or
    fault (the judge itself is wrong, ``fault`` says how); ``evidence`` (exact witnesses); and the
    cost: ``boxes``, ``solver_calls``, ``seconds`` (CPU).
    """

    header: Record
    records: tuple[Record, ...]

    @property
    def violations(self) -> tuple[Record, ...]:
        """Certified points at which the property fails."""
        return tuple(record for record in self.records if record["finding"] == "violation")

    @property
    def faults(self) -> tuple[Record, ...]:
        """Points at which the audit found the judge itself at fault."""
        return tuple(record for record in self.records if record["finding"] == "fault")

    @property
    def consistent(self) -> bool:
        """No violation and no fault. Points without an answer contradict nobody."""
        return not self.violations and not self.faults

    def summary(self) -> Record:
        """Counts and times, as plain data."""
        seconds = [float(record["seconds"]) for record in self.records if "seconds" in record]
        return {
            **{key: self.header[key] for key in ("property", "digest", "solver")},
            "points": len(self.records),
            "head_certified": self._count(certified=True),
            "both_certify": self._count(certified=True, answer="certified"),
            "violations": len(self.violations),
            "faults": len(self.faults),
            "rejected_but_holds": self._count(certified=False, answer="certified"),
            "rejected_and_fails": self._count(certified=False, answer="falsified"),
            "unknown": self._count(answer="unknown"),
            "median_seconds": median(seconds) if seconds else None,
            "most_seconds": max(seconds, default=None),
            "total_seconds": sum(seconds),
        }

    def _count(self, **wanted: object) -> int:
        return sum(all(r[key] == value for key, value in wanted.items()) for r in self.records)


def crosscheck(
    net: GloRoNet,
    inputs: Tensor,
    prop: Property | None = None,
    *,
    at_radius: bool = False,
    solver: str | Solver = "z3",
    budget: Budget | float | str = 10.0,
    jobs: int = 1,
    executor: Executor | None = None,
    scheduler: str | None = None,
    records: str | Path | None = None,
    audit_every: int = 10,
    on_records: Callable[[int], object] | None = None,
) -> CrossCheck:
    """Judge the certificates of ``net`` at each point by exact arithmetic.

    Args:
        net: the network; its exact weights are translated to rationals.
        inputs: (batch, ...), the points, taken as the exact numbers that they are.
        prop: judge this property instead of the network's own (the head is rebuilt for it).
        at_radius: judge each point at the radius that its certificate claims (less a millionth)
            instead of the property's own: much the sharper test of the bounds.
        solver: a backend or its name.
        budget: for each point: seconds, a text such as ``"10s"``, or a Budget.
        jobs: worker processes on this machine; 1 works in this process.
        executor: any ``concurrent.futures.Executor`` instead, with ``jobs`` workers.
        scheduler: the address of a dask scheduler instead (extra ``[cluster]``).
        records: a file of JSON lines that grows as points are done; an existing one of the same
            run is resumed.
        audit_every: audit the judge itself at every so-many-th point; 0: never.
        on_records: called with the number of points that have just been done.

    Raises:
        InvalidInput: a budget of 0, an unknown solver, points that do not fit.
        InvalidProperty: the property does not fit the number of classes.
        UnsupportedLayer: a layer without an exact encoding; says why.
        NetworkTooLarge: too many numbers for exact arithmetic; says what would fit.
        DataError: ``records`` belongs to another run.
        WorkerLost: a worker process died; what is in ``records`` is kept.
    """
    limits, backend = Budget.of(budget), solver_named(solver)
    judged = net if prop is None or prop == net.prop else _headed(net, prop)
    if len(inputs) == 0:
        raise InvalidInput("inputs holds no points: there is nothing to check.")
    if audit_every < 0:
        raise InvalidInput(f"audit_every={audit_every} must be at least 0.")
    network = exact_network(judged.backbone, tuple(inputs.shape[1:]))
    header = _header(judged, inputs, backend.name, limits, at_radius)
    book = Records(records, header)
    # A copy, since an in-place activation may overwrite it; also refuses inexact inputs.
    certificates = judged.certify(inputs.detach().clone())
    skip = set(book.done)
    tasks = tasks_of(judged, inputs, certificates, skip=skip, audit_every=audit_every)
    if at_radius:
        tasks = [_at_radius(task) for task in tasks]
    shared = Job(network, judged.prop, solver, limits, ())
    for done in _results(shared, tasks, jobs, executor, scheduler):
        fresh = book.add(done)
        if on_records is not None:
            on_records(len(fresh))
    wanted = range(len(inputs))
    return CrossCheck(header, tuple(book.done[i] for i in wanted if i in book.done))


def tasks_of(
    net: GloRoNet,
    inputs: Tensor,
    certificates: Certificates,
    *,
    skip: set[int],
    audit_every: int,
) -> list[Task]:
    """One task for each point that is not to be skipped; an attack adds candidates."""
    points = inputs.detach().double().cpu().flatten(1)
    finite = points.isfinite().all(1).tolist()
    chosen = [index for index in range(len(points)) if index not in skip]
    attacked = [index for index in chosen if finite[index]]
    candidates = dict(zip(attacked, _attacked(net, inputs, attacked), strict=True))
    certified, logits = certificates.certified.tolist(), certificates.logits.tolist()
    margins, radii = certificates.margin.tolist(), certificates.radius.tolist()
    return [
        Task(
            index,
            tuple(points[index].tolist()) if finite[index] else None,
            certified[index],
            margins[index],
            radii[index],
            tuple(logits[index]),
            candidates=candidates.get(index, ()),
            audited=audit_every > 0 and index % audit_every == 0,
        )
        for index in chosen
    ]


def _at_radius(task: Task) -> Task:
    """The same point, judged at the certified radius; a point without one claims nothing."""
    if not (0 < task.radius < math.inf):
        return replace(task, certified=False)
    inside = Fraction(task.radius) * (1 - Fraction(1, 2**20))
    return replace(task, certified=True, eps=str(inside), candidates=())


def _attacked(
    net: GloRoNet, inputs: Tensor, chosen: list[int]
) -> list[tuple[tuple[float, ...], ...]]:
    """What margin PGD found at the chosen points; none where it does not know the property."""
    if not chosen:
        return []
    try:
        found = attack(net, inputs[chosen], steps=20, restarts=2)
    except InvalidProperty:
        return [()] * len(chosen)
    witnesses, broken = found.witnesses.flatten(2).tolist(), found.broken.tolist()
    return [
        tuple(tuple(point) for point, yes in zip(row, flags, strict=True) if yes)
        for row, flags in zip(witnesses, broken, strict=True)
    ]


def _results(
    shared: Job,
    tasks: list[Task],
    jobs: int,
    executor: Executor | None,
    scheduler: str | None,
) -> Iterator[list[Record]]:
    starts = range(0, len(tasks), _CHUNK)
    queue = [
        Job(shared.network, shared.prop, shared.solver, shared.budget, tuple(tasks[s : s + _CHUNK]))
        for s in starts
    ]
    with ExitStack() as stack:
        workers = jobs
        if scheduler is not None:
            executor, workers = stack.enter_context(cluster(scheduler))
        elif executor is None:
            executor = stack.enter_context(processes(min(jobs, max(1, len(queue)))))
        yield from spread(queue, work, executor, workers)


def _headed(net: GloRoNet, prop: Property) -> GloRoNet:
    headed = GloRoNet(net.backbone, prop, net.num_classes)
    return headed.train(net.training)


def _header(net: GloRoNet, inputs: Tensor, solver: str, budget: Budget, at_radius: bool) -> Record:
    numbers = np.ascontiguousarray(inputs.detach().double().cpu().numpy())
    return {
        "relaxcert": "crosscheck",
        "version": 1,
        "property": json.loads(canonical_json(net.prop)),
        "digest": digest(net.prop),
        "weights": fingerprint(net.backbone),
        "data": hashlib.sha256(repr(numbers.shape).encode() + numbers.tobytes()).hexdigest(),
        "points": len(inputs),
        "at_radius": at_radius,
        "solver": solver,
        "seconds_a_point": budget.seconds,
    }
