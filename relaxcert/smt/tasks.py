"""What a cross-check asks of its workers: for each point, what every head claims there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from torch import Tensor

from relaxcert.attacks import attack
from relaxcert.errors import InvalidProperty
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.smt.work import Claim, Task

Points = tuple[tuple[float, ...], ...]


def tasks_of(
    heads: Sequence[tuple[GloRoNet, Certificates]],
    inputs: Tensor,
    *,
    skip: set[int],
    audit_every: int,
    at_radius: bool,
) -> list[Task]:
    """One task for each point that is not to be skipped; attacks add candidates.

    Args:
        heads: one for each property, with its certificates of all points.
        inputs: (batch, ...).
        skip: indices of points that are done.
        audit_every: the judge is audited at every so-many-th point; 0: never.
        at_radius: judge at the radii that the certificates claim.
    """
    points = inputs.detach().double().cpu().flatten(1)
    finite = points.isfinite().all(1).tolist()
    chosen = [index for index in range(len(points)) if index not in skip]
    # What an attack finds at a property's own eps is outside the balls of smaller radii.
    attacked = [] if at_radius else [index for index in chosen if finite[index]]
    candidates: dict[int, Points] = dict.fromkeys(attacked, ())
    for net, _ in heads:
        for index, found in zip(attacked, _attacked(net, inputs, attacked), strict=True):
            candidates[index] += found
    logits = heads[0][1].logits.tolist()
    claims = [_claims(certificates, at_radius=at_radius) for _, certificates in heads]
    return [
        Task(
            index,
            tuple(points[index].tolist()) if finite[index] else None,
            tuple(claimed[index] for claimed in claims),
            tuple(logits[index]),
            candidates=candidates.get(index, ()),
            audited=audit_every > 0 and index % audit_every == 0,
        )
        for index in chosen
    ]


def _claims(certificates: Certificates, *, at_radius: bool) -> list[Claim]:
    columns = (certificates.certified, certificates.margin, certificates.radius)
    claims = [Claim(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    return [_at_radius(claim) for claim in claims] if at_radius else claims


def _at_radius(claim: Claim) -> Claim:
    """The same, judged at the certified radius; a point without one claims nothing."""
    if not (0 < claim.radius < math.inf):
        return replace(claim, certified=False)
    inside = Fraction(claim.radius) * (1 - Fraction(1, 2**20))
    return replace(claim, certified=True, eps=str(inside))


def _attacked(net: GloRoNet, inputs: Tensor, chosen: list[int]) -> list[Points]:
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
