"""Properties compiled to heads: pure functions of logits and links, for each kind of property.

A head holds constants only (masks), no state; it synchronises nothing and traces as one graph.
AND lowers to min, OR to max, a link to its bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidProperty
from relaxcert.heads.links import EstimatedLinks, Links, ProvedLinks, RadiusLinks
from relaxcert.heads.outcome import Head, LinksIn, Margin, Outcome
from relaxcert.heads.prefix_head import PrefixHead
from relaxcert.spec.prefix import PrefixProperty
from relaxcert.spec.property import Conjunction, Disjunction, Property
from relaxcert.spec.targeted import Targeted

__all__ = [
    "CompositionHead",
    "Head",
    "LinksIn",
    "Margin",
    "Outcome",
    "PrefixHead",
    "TargetedHead",
    "compile_property",
]


class TargetedHead(Head):
    """Targeted: each forbidden class is outscored by some allowed class on the whole ball."""

    allowed: Tensor
    rows: Tensor

    def __init__(self, prop: Targeted, num_classes: int) -> None:
        super().__init__()
        self.ball = prop.ball
        widest = max(len(targets) for targets in prop.allowed)
        allowed = torch.zeros(num_classes, num_classes, dtype=torch.bool)
        rows = torch.empty(num_classes, widest, dtype=torch.long)
        for label, targets in enumerate(prop.allowed):
            allowed[label, list(targets)] = True
            padding = [label] * (widest - len(targets))
            rows[label] = torch.tensor([*targets, *padding])
        self.register_buffer("allowed", allowed, persistent=False)
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, logits: Tensor, links_in: LinksIn) -> Outcome:
        """min over forbidden i of max over allowed j of L[j, i]."""
        links = links_in(self.ball)
        predicted = logits.topk(1, dim=1).indices
        margin = self._margin(links, predicted)
        none = torch.zeros_like(predicted[:, 0])
        sets = self.allowed[predicted[:, 0]] & (margin > 0)[:, None]
        radius = None
        if isinstance(links, ProvedLinks) and links.product is not None:
            radius = self._margin(RadiusLinks(links, links.product), predicted)
        return Outcome(margin, margin.clamp(max=0.0), none, none, sets, sets, radius=radius)

    def margin(self, logits: Tensor, links_in: LinksIn) -> Margin:
        """min over forbidden i of max over allowed j of L[j, i]."""
        margin = self._margin(links_in(self.ball), logits.topk(1, dim=1).indices)
        return Margin(margin, margin.clamp(max=0.0))

    def _margin(self, links: Links, predicted: Tensor) -> Tensor:
        allowed, rows = self.allowed[predicted[:, 0]], self.rows[predicted[:, 0]]
        if isinstance(links, EstimatedLinks):
            return _differentiable_margin(links, predicted, allowed, rows)
        best = links.rows(rows).amax(1)
        margin = best.masked_fill(allowed, math.inf).amin(1)
        # Which classes are allowed hangs on the prediction at x, so that must be certain.
        lead = links.centre_rows(predicted)[:, 0].scatter(1, predicted, math.inf).amin(1)
        return torch.where(lead > 0, margin, torch.minimum(margin, lead))


def _differentiable_margin(
    links: EstimatedLinks, predicted: Tensor, allowed: Tensor, rows: Tensor
) -> Tensor:
    """The same; only the active pairs, over the ball and at x, are computed with gradient."""
    with torch.no_grad():
        best, which = links.rows(rows).max(1)
        loser = best.masked_fill(allowed, math.inf).argmin(1, keepdim=True)
        winner = rows.gather(1, which.gather(1, loser))
        second = links.logits.scatter(1, predicted, -math.inf).argmax(1, keepdim=True)
    margin = links.at(winner, loser)[:, 0]
    lead = links.centre_at(predicted, second)[:, 0]
    return torch.where(lead > 0, margin, torch.minimum(margin, lead))


class CompositionHead(Head):
    """``&`` is the minimum, ``|`` the maximum of the parts' margins."""

    def __init__(self, parts: list[Head], *, every: bool) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.every = every

    def forward(self, logits: Tensor, links_in: LinksIn) -> Outcome:
        """Combine the parts; the sets are those of the parts with the longest, shortest k."""
        parts = tuple(part(logits, links_in) for part in self._heads())
        both = self._combined(parts)
        certified = both.margin > 0
        loosest, sets = _pick(parts, certified, loosest=True)
        strictest, strictest_sets = _pick(parts, certified, loosest=False)
        radii = [part.radius for part in parts if part.radius is not None]
        radius = self._join(radii) if len(radii) == len(parts) else None
        return Outcome(
            both.margin, both.fallback, loosest, strictest, sets, strictest_sets, parts, radius
        )

    def margin(self, logits: Tensor, links_in: LinksIn) -> Margin:
        """The minimum or maximum of the parts' margins."""
        return self._combined([part.margin(logits, links_in) for part in self._heads()])

    def _heads(self) -> list[Head]:
        return [part for part in self.parts if isinstance(part, Head)]

    def _combined(self, parts: Sequence[Margin]) -> Margin:
        stand_ins = [
            torch.where(part.margin.isfinite(), part.margin, part.fallback).clamp(max=0.0)
            for part in parts
        ]
        return Margin(self._join([part.margin for part in parts]), self._join(stand_ins))

    def _join(self, values: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack(list(values))
        return stacked.amin(0) if self.every else stacked.amax(0)


def compile_property(prop: Property, num_classes: int) -> Head:
    """Compile a property for networks with ``num_classes`` logits; ``prop.check`` comes first.

    Raises:
        InvalidProperty: a property of an unknown kind.
    """
    match prop:
        case PrefixProperty():
            return PrefixHead(prop, num_classes)
        case Targeted() if type(prop) is Targeted:
            return TargetedHead(prop, num_classes)
        case Conjunction() | Disjunction() if type(prop) in (Conjunction, Disjunction):
            parts = [compile_property(part, num_classes) for part in prop.parts]
            return CompositionHead(parts, every=isinstance(prop, Conjunction))
        case _:
            raise InvalidProperty(
                f"{type(prop).__name__} cannot be compiled: extend PrefixProperty, or compose "
                "known properties with & and |."
            )


def _pick(parts: tuple[Outcome, ...], certified: Tensor, *, loosest: bool) -> tuple[Tensor, Tensor]:
    """k and set of the loosest (or strictest) certified part, by the size of the set."""
    lengths = torch.stack([part.loosest if loosest else part.strictest for part in parts])
    sets = torch.stack([part.sets if loosest else part.strictest_sets for part in parts])
    sizes = sets.sum(2)
    proved = torch.stack([part.margin for part in parts]) > 0
    if loosest:
        place = torch.where(proved, sizes, -1).argmax(0)
    else:
        unusable = sizes.shape[0] + sets.shape[2] + 1
        place = torch.where(proved & (sizes > 0), sizes, unusable).argmin(0)
    column = torch.arange(place.shape[0], device=place.device)
    length = torch.where(certified, lengths[place, column], 0)
    return length, sets[place, column] & certified[:, None]
