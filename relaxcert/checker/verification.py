"""The check: every step in order, up to the first that is wrong."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, ctx, fmpq

from relaxcert.checker.certificate import Certificate, Fields, canonical
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
    header, prop = certificate.header, certificate.header["property"]
    _check_identity(certificate, model, inputs, digest or model.digest)
    with ctx.workprec(PRECISION):
        steps, classes = steps_of(model.architecture, model.tensors, inputs.shape[1:])
        check_property(prop, classes)
        norms, size = norms_of(prop), math.prod(inputs.shape[1:])
        reaches = reaches_of(steps, certificate.bounds, norms, size)
        for start in range(0, len(certificate.points), BATCH):
            claims = certificate.points[start : start + BATCH]
            rows = logits_of(steps, inputs[[claim["index"] for claim in claims]])
            for claim, logits in zip(claims, rows, strict=True):
                _check_claim(claim, prop, logits, reaches)
            if progress is not None:
                progress(len(claims))
    return Accepted(
        header["points"],
        len(certificate.points),
        canonical(prop),
        header["digest"],
        header["weights"],
    )


def _check_identity(certificate: Certificate, model: Model, inputs: Array, digest: str) -> None:
    """The certificate speaks of this property, these weights and these points."""
    header = certificate.header
    if digest_of(header["property"]) != header["digest"]:
        raise Rejected("property", "it does not match its digest.")
    if header["digest"] != digest:
        raise Rejected("property", f"its digest is {header['digest']}, expected {digest}.")
    if header["weights"] != model.weights:
        raise Rejected("weights", "the model's weights or layers are not those of the certificate.")
    if not bool(np.isfinite(inputs).all()):
        raise Rejected("inputs", "they hold NaN or infinite values.")
    hashes = hashes_of(inputs)
    for claim in certificate.points:
        if claim["index"] < len(hashes) and hashes[claim["index"]].hex() != claim["input"]:
            raise Rejected("input", "not the point that was certified.", claim["index"])
    everything = hashlib.sha256(b"".join(hashes)).hexdigest()
    if len(inputs) != header["points"] or everything != header["inputs"]:
        raise Rejected(
            "inputs", "not the points of the certificate: another file, part, order or scale."
        )


def _check_claim(
    claim: Fields, prop: Any, logits: Sequence[arb], reaches: dict[str, Reach]
) -> None:
    link, margin, radius = _links(logits, reaches), claim["margin"], claim["radius"]
    found = evaluate(prop, logits, link, None)
    if not (margin > 0 and found.margin >= arb(margin)):
        proved = float(found.margin)
        raise Rejected("margin", f"{margin!r} claimed, {proved!r} proved.", claim["index"])
    if radius is not None:
        ball = math.inf if radius == "inf" else Fraction(radius)
        if not (ball >= 0 and evaluate(prop, logits, link, ball).margin > 0):
            raise Rejected("radius", f"{radius!r} is not proved.", claim["index"])
    elif len(reaches) == 1:
        raise Rejected("radius", "there is none.", claim["index"])
    wrong = _wrong_sets(claim, prop, found)
    if wrong is not None:
        raise Rejected("set", wrong, claim["index"])


def _wrong_sets(claim: Fields, prop: Any, found: Finding) -> str | None:
    """What is not proved of the two sets, the loosest and the strictest."""
    stated = [(claim["k"], claim["set"]), (claim["strictest_k"], claim["strictest_set"])]
    if prop["kind"] in ("all", "any"):
        whole = all(k is None and members is None for k, members in stated)
        return None if whole else "a composition of properties has no single set."
    lengths = [-1 if k is None else k for k, _ in stated]
    single = prop["kind"] != "targeted" and prop.get("quantifier") != "pointwise"
    if (single and 0 in lengths) or lengths[0] < lengths[1]:
        return f"lengths {lengths} are not possible."
    for k, members in stated:
        expected = found.prefixes.get(k, frozenset() if k == 0 else None)
        if expected is None or sorted(expected) != members:
            return f"k={k} with {members} is not proved."
    return None


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
        # min and max pass over NaN, which is neither more nor less than anything.
        return gap.lower() if gap.is_finite() else NOTHING

    return link
