"""``crosscheck``: certificates judged by a solver that knows nothing of them.

For every point the head's verdict and the solver's stand side by side. A point that the head
certifies and the solver falsifies is a soundness violation. The solver's problem is made from the
exact weights alone; none of the Lipschitz bounds enter it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.verified import fingerprint
from relaxcert.smt.fanout import cluster, processes, spread
from relaxcert.smt.query import Budget
from relaxcert.smt.records import Record, Records
from relaxcert.smt.solver import Solver, solver_named
from relaxcert.smt.tasks import tasks_of
from relaxcert.smt.translate import exact_network
from relaxcert.smt.work import Job, Task, work
from relaxcert.spec.canonical import canonical_json, digest
from relaxcert.spec.property import Property

_CHUNK = 8  # points a job: small enough to spread, large enough to pay for the trip


@dataclass(frozen=True)
class CrossCheck:
    """What a cross-check found, one record a point, ordered by index.

    A record has ``index``, and ``property``, the place of the property among those that were judged
    together; the head's ``certified``, ``margin`` and ``radius``; ``eps``, the radius
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
            **{key: self.header[key] for key in ("property", "digest", "solver", "at_radius")},
            "weights_sha256": self.header["weights"],
            "data_sha256": self.header["data"],
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

    Several properties of the same points: :func:`crosscheck_all`, which shares what it learns.

    Raises:
        InvalidInput: a budget of 0, an unknown solver, points that do not fit.
        InvalidProperty: the property does not fit the number of classes.
        UnsupportedLayer: a layer without an exact encoding; says why.
        NetworkTooLarge: too many numbers for exact arithmetic; says what would fit.
        DataError: ``records`` belongs to another run.
        WorkerLost: a worker process died; what is in ``records`` is kept.
    """
    chosen = net.prop if prop is None else prop
    return crosscheck_all(
        net,
        inputs,
        [chosen],
        at_radius=at_radius,
        solver=solver,
        budget=budget,
        jobs=jobs,
        executor=executor,
        scheduler=scheduler,
        records=records,
        audit_every=audit_every,
        on_records=on_records,
    )[0]


def crosscheck_all(
    net: GloRoNet,
    inputs: Tensor,
    props: Sequence[Property],
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
) -> tuple[CrossCheck, ...]:
    """:func:`crosscheck` for several properties: one result each, in their order.

    Each point is visited once: that class i cannot reach class j in a ball, and every witness, is
    decided once and serves all properties there. ``budget`` holds for each property of a point;
    ``on_records`` gets the number of points; the other arguments are those of ``crosscheck``.

    Raises:
        InvalidInput: no property; and what ``crosscheck`` raises.
    """
    limits, backend = Budget.of(budget), solver_named(solver)
    if not props:
        raise InvalidInput("props is empty: give at least one property.")
    if len(inputs) == 0:
        raise InvalidInput("inputs holds no points: there is nothing to check.")
    if audit_every < 0:
        raise InvalidInput(f"audit_every={audit_every} must be at least 0.")
    nets = [net if prop == net.prop else _headed(net, prop) for prop in props]
    network = exact_network(net.backbone, tuple(inputs.shape[1:]))
    header = _header(net, inputs, props, backend.name, limits, at_radius)
    book = Records(records, header, len(inputs), len(props))
    # A copy, since an in-place activation may overwrite it; also refuses inexact inputs.
    heads = [(head, head.certify(inputs.detach().clone())) for head in nets]
    skip = book.complete()
    tasks = tasks_of(heads, inputs, skip=skip, audit_every=audit_every, at_radius=at_radius)
    shared = Job(network, tuple(props), solver, limits, ())
    for done in _results(shared, tasks, jobs, executor, scheduler):
        fresh = book.add(done)
        if on_records is not None:
            on_records(len({record["index"] for record in fresh}))
    return tuple(
        CrossCheck(
            {**header, "property": header["property"][place], "digest": header["digest"][place]},
            tuple(book.done[i, place] for i in range(len(inputs)) if (i, place) in book.done),
        )
        for place in range(len(props))
    )


def _results(
    shared: Job,
    tasks: list[Task],
    jobs: int,
    executor: Executor | None,
    scheduler: str | None,
) -> Iterator[list[Record]]:
    starts = range(0, len(tasks), _CHUNK)
    queue = [replace(shared, tasks=tuple(tasks[start : start + _CHUNK])) for start in starts]
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


def _header(
    net: GloRoNet,
    inputs: Tensor,
    props: Sequence[Property],
    solver: str,
    budget: Budget,
    at_radius: bool,
) -> Record:
    numbers = np.ascontiguousarray(inputs.detach().double().cpu().numpy())
    return {
        "relaxcert": "crosscheck",
        "version": 2,
        "property": [json.loads(canonical_json(prop)) for prop in props],
        "digest": [digest(prop) for prop in props],
        "weights": fingerprint(net.backbone),
        "data": hashlib.sha256(repr(numbers.shape).encode() + numbers.tobytes()).hexdigest(),
        "points": len(inputs),
        "at_radius": at_radius,
        "solver": solver,
        "seconds_a_point": budget.seconds,
    }
