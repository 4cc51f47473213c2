"""The check: every step in order, up to the first that is wrong."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, ctx, fmpq

from relaxcert.checker.certificate import Certificate, Claim, canonical
from relaxcert.checker.model import Array, Model
from relaxcert.checker.network import Reach, logits_of, reaches_of, steps_of
from relaxcert.checker.outcome import Accepted, Rejected
from relaxcert.checker.points import hashes_of
from relaxcert.checker.property import (
    NOTHING,
    Finding,
    Link,
    Radius,
    check_property,
    digest_of,
    evaluate,
    norms_of,
)

PRECISION = 192  # bits; more only makes balls smaller
BATCH = 512

Progress = Callable[[int], object]


def check_certificate(
    certificate: Certificate,
    model: Model,
    inputs: Array,
    *,
    digest: str | None = None,
    progress: Progress | None = None,
) -> Accepted:
    """Re-prove everything that the certificate claims.

    Args:
        certificate: as read; nothing in it is believed.
        model: the network that it should speak of.
        inputs: all points of the data, in the network's units, (points, ...).
        digest: SHA-256 of the property that is wanted; by default that of the model.
        progress: called with the number of points after each batch.

    Raises:
        Rejected: names the first wrong step, and the point.
        Unreadable: the network or property is beyond this checker, or the data do not fit.
    """
    _check_identity(certificate, model, inputs, digest or model.digest)
    with ctx.workprec(PRECISION):
        steps, classes = steps_of(model.architecture, model.tensors, inputs.shape[1:])
        check_property(certificate.property, classes)
        norms, size = norms_of(certificate.property), math.prod(inputs.shape[1:])
        reaches = reaches_of(steps, certificate.bounds, norms, size)
        for start in range(0, len(certificate.claims), BATCH):
            claims = certificate.claims[start : start + BATCH]
            rows = logits_of(steps, inputs[[claim.index for claim in claims]])
            for claim, logits in zip(claims, rows, strict=True):
                _check_claim(claim, certificate.property, logits, reaches)
            if progress is not None:
                progress(len(claims))
    return Accepted(
        certificate.points,
        len(certificate.claims),
        canonical(certificate.property),
        certificate.digest,
        certificate.weights,
    )


def _check_identity(certificate: Certificate, model: Model, inputs: Array, digest: str) -> None:
    """The certificate speaks of this property, these weights and these points."""
    if digest_of(certificate.property) != certificate.digest:
        raise Rejected("property", "it does not match its digest.")
    if certificate.digest != digest:
        raise Rejected("property", f"its digest is {certificate.digest}, expected {digest}.")
    if certificate.weights != model.weights:
        raise Rejected("weights", "the model's weights or layers are not those of the certificate.")
    if not bool(np.isfinite(inputs).all()):
        raise Rejected("inputs", "they hold NaN or infinite values.")
    hashes = hashes_of(inputs)
    for claim in certificate.claims:
        if claim.index < len(inputs) and hashes[claim.index].hex() != claim.input:
            raise Rejected("input", "not the point that was certified.", claim.index)
    everything = hashlib.sha256(b"".join(hashes)).hexdigest()
    if len(inputs) != certificate.points or everything != certificate.inputs:
        raise Rejected(
            "inputs", "not the points of the certificate: another file, part, order or scale."
        )


def _check_claim(claim: Claim, prop: Any, logits: Sequence[arb], reaches: dict[str, Reach]) -> None:
    link = _links(logits, reaches)
    found = evaluate(prop, logits, link, None)
    if not (claim.margin > 0 and found.margin >= arb(claim.margin)):
        proved = float(found.margin)
        raise Rejected("margin", f"{claim.margin!r} claimed, {proved!r} proved.", claim.index)
    if claim.radius is not None:
        radius = claim.radius if math.isinf(claim.radius) else Fraction(claim.radius)
        if not (radius >= 0 and evaluate(prop, logits, link, radius).margin > 0):
            raise Rejected("radius", f"{claim.radius!r} is not proved.", claim.index)
    elif len(reaches) == 1:
        raise Rejected("radius", "there is none.", claim.index)
    _check_prefixes(claim, prop, found)


def _check_prefixes(claim: Claim, prop: Any, found: Finding) -> None:
    lengths = [-1 if k is None else k for k, _ in claim.prefixes]
    if prop["kind"] in ("all", "any"):
        if any(k is not None or members is not None for k, members in claim.prefixes):
            raise Rejected("set", "a composition of properties has no single set.", claim.index)
        return
    single = prop["kind"] != "targeted" and prop.get("quantifier") != "pointwise"
    if (single and 0 in lengths) or lengths[0] < lengths[1]:
        raise Rejected("set", f"lengths {lengths} are not possible.", claim.index)
    for k, (_, members) in zip(lengths, claim.prefixes, strict=True):
        expected = found.prefixes.get(k, frozenset() if k == 0 else None)
        if expected is None or members is None or sorted(expected) != list(members):
            raise Rejected("set", f"k={k} with {list(members or ())} is not proved.", claim.index)


def _links(logits: Sequence[arb], reaches: dict[str, Reach]) -> Link:
    def link(norm: str, radius: Radius, winner: int, loser: int) -> arb:
        """The lower end of f_j - f_i - eps P D_ji, an exact number."""
        gap, reach = logits[winner] - logits[loser], reaches[norm]
        if isinstance(radius, float):
            speed = reach.product * reach.distances[winner][loser]
            return gap.lower() if speed == 0 else NOTHING
        if radius:
            moved = arb(fmpq(radius.numerator, radius.denominator)) * reach.product
            gap -= moved * reach.distances[winner][loser]
        return gap.lower()

    return link
