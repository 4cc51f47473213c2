"""Heads (heads/head.py, heads/prefix_head.py) as ONNX: minima, maxima, comparisons, no rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from relaxcert.errors import UnsupportedLayer
from relaxcert.heads.head import CompositionHead, TargetedHead
from relaxcert.heads.outcome import Head
from relaxcert.heads.prefix_head import PrefixHead
from relaxcert.interop.onnx_export.links import OnnxLinks
from relaxcert.interop.onnx_export.prefix import chain_margins, prefix_margins, ranked_rows
from relaxcert.interop.onnx_export.writer import Writer
from relaxcert.spec.ball import Ball

LinksIn = Callable[[Ball], OnnxLinks]


@dataclass(frozen=True)
class OnnxOutcome:
    """Names of what a head says; see ``Outcome``. All (batch, 1) but ``sets``, (batch, classes).

    shape: margin, fallback, radius float64; loosest int64; sets bool.
    """

    margin: str
    fallback: str
    loosest: str
    sets: str
    radius: str


def write_head(write: Writer, head: Head, logits: str, links_in: LinksIn) -> OnnxOutcome:
    """Write a head; logits (batch, classes) give the ranking only.

    Raises:
        UnsupportedLayer: a head of an unknown kind.
    """
    match head:
        case PrefixHead():
            return _prefix(write, head, logits, links_in(head.ball))
        case TargetedHead():
            return _targeted(write, head, logits, links_in(head.ball))
        case CompositionHead():
            parts = [part for part in head.parts if isinstance(part, Head)]
            return _composition(
                write, [write_head(write, part, logits, links_in) for part in parts], head.every
            )
        case _:
            raise UnsupportedLayer(f"a head of type {type(head).__name__} cannot be exported.")


def _prefix(write: Writer, head: PrefixHead, logits: str, links: OnnxLinks) -> OnnxOutcome:
    """Equations 1 and 4: the largest m^k over the admissible k."""
    top = _top(write, logits, head.depth)
    chosen = write.op(
        "Equal", write.unsqueeze(top, 2), write.constant(torch.arange(links.classes))
    )  # (batch, K, classes)
    admissible = _admissible(write, head, top)
    unbroken = None
    if head.pointwise:
        centre = ranked_rows(write, links.centre_rows(top), top, chosen, head.depth)
        certain = [_positive(write, name) for name in prefix_margins(write, centre, head.depth)]
        unbroken = [write.fold("And", certain[: k + 1]) for k in range(head.depth)]

    def combine(rows: str) -> tuple[list[str], list[str], list[str]]:
        ranked = ranked_rows(write, rows, top, chosen, head.depth)
        margins = prefix_margins(write, ranked, head.depth)
        uniform = [_where(write, a, m) for a, m in zip(admissible, margins, strict=True)]
        if unbroken is None:
            return margins, uniform, uniform
        chains = chain_margins(write, ranked, head.depth)
        overall = [
            write.op("Max", u, _where(write, write.op("And", a, b), c))
            for u, a, b, c in zip(uniform, admissible, unbroken, chains, strict=True)
        ]
        return margins, uniform, overall

    margins, uniform, overall = combine(links.rows(top))
    _, _, radii = combine(links.radii(top))
    loosest = write.constant(torch.zeros(1, 1, dtype=torch.int64))
    for k, name in enumerate(uniform, start=1):
        loosest = write.op("Where", _positive(write, name), write.whole(k), loosest)
    # The first ``loosest`` ranks: rank < loosest, and the class stands at that rank.
    ranks = write.op("Less", write.constant(torch.arange(head.depth)), loosest)
    members = write.op("And", chosen, write.unsqueeze(ranks, 2))
    return OnnxOutcome(
        margin=write.fold("Max", overall),
        fallback=write.op("Min", margins[0], write.double(0.0)),
        loosest=loosest,
        sets=_any(write, members, 1),
        radius=write.fold("Max", radii),
    )


def _admissible(write: Writer, head: PrefixHead, top: str) -> list[str]:
    """Which k may serve, given the ranking: for each k a (batch, 1) or () bool."""
    serves = [write.constant(flag) for flag in head.serves.cpu()]
    if head.outside is None:
        return serves
    # outside[class, set], and whether one of the first k classes lies outside the set
    outside = write.constant(head.outside.cpu().T, torch.int32)
    names: list[str] = []
    left: str | None = None
    for k, serve in enumerate(serves):
        label = write.op("Squeeze", write.slice(top, 1, k, k + 1), write.whole(1))
        own = write.op("Gather", outside, label, axis=0)
        left = own if left is None else write.op("Max", left, own)
        zero = write.constant(torch.zeros((), dtype=torch.int32))
        inside = write.op("Equal", write.reduce("ReduceMin", left, 1, keep=True), zero)
        names.append(write.op("And", inside, serve))
    return names


def _targeted(write: Writer, head: TargetedHead, logits: str, links: OnnxLinks) -> OnnxOutcome:
    """min over forbidden i of max over allowed j of L[j, i]."""
    predicted = _top(write, logits, 1)
    label = write.op("Squeeze", predicted, write.whole(1))
    allowed = write.op("Gather", write.constant(head.allowed.cpu()), label, axis=0)
    winners = write.op("Gather", write.constant(head.rows.cpu()), label, axis=0)
    own = write.op("Equal", predicted, write.constant(torch.arange(links.classes)))
    centre = write.op("Squeeze", links.centre_rows(predicted), write.whole(1))
    lead = _smallest(write, own, centre)

    def margin_of(rows: str) -> str:
        best = write.reduce("ReduceMax", rows, 1)
        margin = _smallest(write, allowed, best)
        # Which classes are allowed hangs on the prediction at x, so that must be certain.
        return write.op("Where", _positive(write, lead), margin, write.op("Min", margin, lead))

    margin = margin_of(links.rows(winners))
    return OnnxOutcome(
        margin=margin,
        fallback=write.op("Min", margin, write.double(0.0)),
        loosest=write.constant(torch.zeros(1, 1, dtype=torch.int64)),
        sets=write.op("And", allowed, _positive(write, margin)),
        radius=margin_of(links.radii(winners)),
    )


def _composition(write: Writer, parts: Sequence[OnnxOutcome], every: bool) -> OnnxOutcome:
    """``&`` is the minimum, ``|`` the maximum; the set is that of the proved part with the most."""
    join = "Min" if every else "Max"
    stand_ins = [write.op("Min", _finite_margin(write, part), write.double(0.0)) for part in parts]
    best = write.constant(torch.full((1, 1), -2, dtype=torch.int64))
    loosest, sets = parts[0].loosest, parts[0].sets
    for part in parts:
        size = write.reduce("ReduceSum", write.cast(part.sets, torch.int64), 1, keep=True)
        score = write.op("Where", _positive(write, part.margin), size, write.whole(-1))
        larger = write.op("Greater", score, best)
        best = write.op("Where", larger, score, best)
        loosest = write.op("Where", larger, part.loosest, loosest)
        kept = write.op("And", sets, write.op("Not", larger))
        sets = write.op("Or", write.op("And", part.sets, larger), kept)
    return OnnxOutcome(
        margin=write.fold(join, [part.margin for part in parts]),
        fallback=write.fold(join, stand_ins),
        loosest=loosest,
        sets=sets,
        radius=write.fold(join, [part.radius for part in parts]),
    )


def _finite_margin(write: Writer, part: OnnxOutcome) -> str:
    """The margin, or its finite stand-in where no prefix may serve."""
    finite = write.op("Greater", part.margin, write.double(-math.inf))
    return write.op("Where", finite, part.margin, part.fallback)


def _top(write: Writer, logits: str, count: int) -> str:
    """Labels in descending logit order, (batch, count); of equal ones the smaller label first."""
    return write.ops("TopK", logits, write.whole(count), count=2, axis=1)[1]


def _positive(write: Writer, name: str) -> str:
    return write.op("Greater", name, write.double(0.0))


def _where(write: Writer, condition: str, name: str) -> str:
    return write.op("Where", condition, name, write.double(-math.inf))


def _smallest(write: Writer, masked: str, values: str) -> str:
    """The smallest value that is not masked; (batch, classes) -> (batch, 1)."""
    rest = write.op("Where", masked, write.double(math.inf), values)
    return write.reduce("ReduceMin", rest, 1, keep=True)


def _any(write: Writer, name: str, axis: int) -> str:
    found = write.reduce("ReduceMax", write.cast(name, torch.int64), axis)
    return write.cast(found, torch.bool)
