"""Escalation: asking a solver about the points that a head rejects.

A head's bound is often too loose where the property holds. What a solver proves exactly is a
certificate too, of the same level; it is marked with its engine. Only verdicts of CERTIFIED change
anything, so the result is never less sound than the solver, and never weaker than the head.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor, nn

from relaxcert.heads.certificates import Certificates
from relaxcert.lipschitz.directed import fraction_down
from relaxcert.smt.judge import PointJudge
from relaxcert.smt.network import ExactNetwork
from relaxcert.smt.query import Budget
from relaxcert.smt.solver import Solver, solver_named
from relaxcert.smt.translate import exact_network
from relaxcert.spec.prefix import PrefixProperty, TopK
from relaxcert.spec.property import Property
from relaxcert.spec.targeted import Targeted
from relaxcert.spec.verdict import Answer


def escalated(
    backbone: nn.Module,
    inputs: Tensor,
    certificates: Certificates,
    solver: str | Solver,
    budget: Budget | float | str,
) -> Certificates:
    """Try the solver on every rejected point, within ``budget`` for all of them together.

    Args:
        backbone: as certified.
        inputs: (batch, ...) float64, the points of ``certificates``.
        certificates: what the head says.
        solver: a backend or its name.
        budget: wall time in all; points that it does not reach stay rejected.

    Raises:
        InvalidInput: a budget of 0, an unknown solver.
        UnsupportedLayer, NetworkTooLarge: no exact encoding, or too large a one.
    """
    limits, backend = Budget.of(budget), solver_named(solver)
    network = exact_network(backbone, tuple(inputs.shape[1:]))
    finite = inputs.isfinite().flatten(1).all(1) & certificates.logits.isfinite().all(1)
    rejected = torch.nonzero(~certificates.certified & finite).flatten().tolist()
    points = inputs.detach().cpu().flatten(1)
    end = time.monotonic() + limits.seconds
    result = _Result(certificates, backend.name)
    for done, index in enumerate(rejected):
        left = end - time.monotonic()
        if left <= 0:
            break
        # Most points take little of their share, so a hard one may take more.
        seconds = min(left, 4 * left / (len(rejected) - done))
        point = tuple(map(Fraction, points[index].tolist()))
        share = replace(limits, seconds=seconds)
        proof = _prove(PointJudge(network, point, share, backend), certificates.prop, network)
        if proof is not None:
            result.accept(index, proof)
    return result.certificates()


@dataclass(frozen=True, slots=True)
class _Proof:
    """What was proved: the sets of the loosest and the strictest k; empty where there is no k."""

    loosest: tuple[int, ...] = ()
    strictest: tuple[int, ...] = ()
    has_k: bool = False


def _prove(judge: PointJudge, prop: Property, network: ExactNetwork) -> _Proof | None:
    """The proof of a property at a point, if the solver finds one."""
    if isinstance(prop, PrefixProperty):
        proved = [k for k in prop.admissible(judge.ranking) if _proves(judge, _top(k, prop))]
        if proved:
            order = judge.ranking.order
            return _Proof(order[: proved[-1]], order[: proved[0]], has_k=True)
        if prop.quantifier == "uniform":
            return None
    if not _proves(judge, prop):
        return None
    if isinstance(prop, Targeted):
        allowed = prop.allowed[judge.ranking.order[0]]
        return _Proof(allowed, allowed)
    return _Proof()


def _top(k: int, prop: PrefixProperty) -> Property:
    return TopK(k, eps=prop.ball.eps, norm=prop.ball.norm)


def _proves(judge: PointJudge, prop: Property) -> bool:
    return judge.judge(prop).verdict.answer is Answer.CERTIFIED


class _Result:
    """Certificates with some points changed."""

    def __init__(self, certificates: Certificates, engine: str) -> None:
        self.before, self.engine = certificates, engine
        names = ("certified", "k", "strictest_k", "sets", "strictest_sets", "radius")
        self.tensors = {name: getattr(certificates, name).clone() for name in names}
        self.escalated = torch.zeros_like(certificates.certified)

    def accept(self, index: int, proof: _Proof) -> None:
        tensors = self.tensors
        self.escalated[index] = True
        tensors["certified"][index] = True
        if proof.has_k:
            tensors["k"][index] = len(proof.loosest)
            tensors["strictest_k"][index] = len(proof.strictest)
        for name, members in (("sets", proof.loosest), ("strictest_sets", proof.strictest)):
            tensors[name][index] = False
            tensors[name][index, list(members)] = True
        balls = self.before.prop.balls
        if len(balls) == 1:
            tensors["radius"][index] = max(
                float(tensors["radius"][index]), fraction_down(balls[0].eps)
            )

    def certificates(self) -> Certificates:
        return replace(self.before, **self.tensors, escalated=self.escalated, solver=self.engine)
