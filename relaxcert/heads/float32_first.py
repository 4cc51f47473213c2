"""Certificates from the float32 forward pass, and float64 only where that cannot decide.

The float32 pass with its rounding bounded gives, for each link, a lower bound (as always) and an
upper bound of its exact value. Where every answer (certified or not, the k, the sets) is the same
on both, float64 would give it too:

    links certified in float32  <=  in float64  <=  those whose upper bound is positive

The first inclusion: float32's allowances exceed its own rounding by more than all of float64's
(``forward.py`` widens them by 2^-20, a thousand times 2^-53 over 2^-24; what the head adds is added
here twice over). The second: a float64 certificate proves the exact link positive. Both speak of
the same ranking, hence the order of the top K + 1 must be certain in float32.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from relaxcert.heads.certificates import Certificates
from relaxcert.heads.certify import assemble, proved_links
from relaxcert.heads.head import CompositionHead, Head, Outcome, PrefixHead
from relaxcert.heads.links import PossibleLinks, ProvedLinks
from relaxcert.lipschitz.directed import finite_rows
from relaxcert.lipschitz.forward import forward_with_error
from relaxcert.lipschitz.graph import Graph
from relaxcert.lipschitz.pairs import as_pairs
from relaxcert.lipschitz.verified import VerifiedBounds
from relaxcert.spec.ball import Ball
from relaxcert.spec.property import Property


def decided_in_float32(
    inputs: Tensor, graph: Graph, bounds: VerifiedBounds, head: Head, prop: Property
) -> tuple[Certificates, Tensor]:
    """Certificates of a batch from float32 alone, and where they are what float64 would give.

    Args:
        inputs: (batch, ...), float64.
        graph: of the live network in eval mode, with float32 weights.
        bounds: verified.
        head: of the property.
        prop: the property.

    Returns:
        The certificates, and (batch,) bool: where verdict, k and sets are those of float64.
        Margins and radii are proved as well, but lower by the allowances of float32.
    """
    rounded = inputs.to(torch.float32)
    same = finite_rows(inputs) & (rounded == inputs).flatten(1).all(1)
    forward = forward_with_error(rounded, graph, bounds)
    links_in = proved_links(forward, bounds, radii=True)

    def proved_in(ball: Ball) -> ProvedLinks:
        return _with_reserve(links_in(ball))

    def possible_in(ball: Ball) -> PossibleLinks:
        return PossibleLinks(proved_in(ball))

    lower = head(forward.logits, proved_in)
    upper = head(forward.logits, possible_in)
    finite = finite_rows(forward.logits)
    decided = same & finite & _agree(lower, upper)
    for ball in dict.fromkeys(prop.balls):
        decided = decided & _order_is_certain(proved_in(ball), deepest(head))
    logits = forward.logits.double()
    return assemble(lower, logits, finite, prop, bounds.fingerprint), decided


def deepest(head: Head) -> int:
    """The largest number of ranks that a head looks at."""
    if isinstance(head, CompositionHead):
        return max(deepest(part) for part in head.parts if isinstance(part, Head))
    return head.depth if isinstance(head, PrefixHead) else 1


def merged(first: Certificates, again: Certificates, rows: Tensor) -> Certificates:
    """``first`` with the points ``rows`` (labels, not a mask) replaced by those of ``again``."""
    tensors: dict[str, Any] = {
        field.name: getattr(first, field.name).index_copy(0, rows, getattr(again, field.name))
        for field in fields(first)
        if isinstance(getattr(first, field.name), Tensor)
    }
    parts = tuple(
        merged(one, other, rows) for one, other in zip(first.parts, again.parts, strict=True)
    )
    return replace(first, **tensors, parts=parts)


def _with_reserve(links: ProvedLinks) -> ProvedLinks:
    """Slack enlarged by more than what the heads allow for in float32 and in float64 together."""
    reserve = links.allowance(links.error + links.reach) * 4.0
    return replace(links, slack=links.slack + reserve[:, None])


def _order_is_certain(links: ProvedLinks, depth: int) -> Tensor:
    """Whether the K highest classes are the same, in the same order, for the exact logits."""
    highest = links.logits.topk(depth + 1, dim=1).values
    gap = (highest[:, :-1] - highest[:, 1:]).amin(1)
    # With the reserve this is more than both errors of a difference.
    return gap > 2.0 * links.slack.amax(1) + links.error * as_pairs(links.pairs).largest


def _agree(lower: Outcome, upper: Outcome) -> Tensor:
    same = ((lower.margin > 0) == (upper.margin > 0)) & (lower.loosest == upper.loosest)
    same = same & (lower.strictest == upper.strictest) & (lower.sets == upper.sets).all(1)
    for one, other in zip(lower.parts, upper.parts, strict=True):
        same = same & _agree(one, other)
    return same
