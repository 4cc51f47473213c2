"""The property compiled: a pure function of logits and links, for each kind of property.

A head holds constants only (masks), no state; it synchronises nothing and traces as one graph.
AND lowers to min, OR to max, a link to its bound.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidProperty
from relaxcert.heads.links import Links
from relaxcert.heads.prefix import (
    chain_margins,
    prefix_margins,
    split_links,
    unbroken_prefixes,
)
from relaxcert.spec.ball import Ball
from relaxcert.spec.prefix import PrefixProperty
from relaxcert.spec.property import Conjunction, Disjunction, Property
from relaxcert.spec.targeted import Targeted

LinksIn = Callable[[Ball], Links]


@dataclass(frozen=True)
class Outcome:
    """What a head says of a batch.

    Attributes:
        margin: (batch,), positive where the property is guaranteed; -inf where nothing can serve.
        fallback: (batch,), a finite, non-positive stand-in for -inf, to keep losses finite.
        loosest: (batch,), largest certified prefix length, 0 if there is none.
        strictest: (batch,), smallest one.
        sets: (batch, classes), the classes that the loosest guarantee confines to.
        strictest_sets: (batch, classes), likewise for the strictest.
        parts: the outcomes of the parts of a composition.
    """

    margin: Tensor
    fallback: Tensor
    loosest: Tensor
    strictest: Tensor
    sets: Tensor
    strictest_sets: Tensor
    parts: tuple[Outcome, ...] = ()


class Head(nn.Module):
    """A compiled property; :func:`compile_property` builds it."""

    @abstractmethod
    def forward(self, logits: Tensor, links_in: LinksIn) -> Outcome:
        """Combine the links of a batch; logits (batch, classes) give the ranking only."""


class PrefixHead(Head):
    """Local, TopK, RelaxedTopK, Affinity, and prefix properties of the user's own."""

    serves: Tensor
    outside: Tensor | None

    def __init__(self, prop: PrefixProperty, num_classes: int) -> None:
        super().__init__()
        _refuse_overrides(prop)
        self.ball = prop.ball
        self.pointwise = prop.quantifier == "pointwise"
        lengths = set(prop.lengths())
        self.depth = max(lengths)
        if self.pointwise and lengths != set(range(1, self.depth + 1)):
            raise InvalidProperty(
                f"quantifier='pointwise' needs the prefix lengths 1..K, got {sorted(lengths)}: the "
                "chain argument covers every boundary up to K; use quantifier='uniform'."
            )
        serves = torch.tensor([k in lengths for k in range(1, self.depth + 1)])
        self.register_buffer("serves", serves, persistent=False)
        outside = None
        if prop.affinity_sets is not None:
            outside = torch.ones(len(prop.affinity_sets), num_classes, dtype=torch.bool)
            for row, members in enumerate(prop.affinity_sets.sets):
                outside[row, list(members)] = False
        self.register_buffer("outside", outside, persistent=False)

    def forward(self, logits: Tensor, links_in: LinksIn) -> Outcome:
        """Equations 1 and 4: the largest m^k over the admissible k."""
        links = links_in(self.ball)
        top = logits.topk(self.depth, dim=1).indices
        inside, tails = split_links(links.rows(top), top)
        admissible = self.admissible(top)
        margins = prefix_margins(tails)
        uniform = margins.masked_fill(~admissible, -math.inf)
        overall = uniform
        if self.pointwise:
            centre = prefix_margins(split_links(links.centre_rows(top), top)[1])
            admissible = admissible & unbroken_prefixes(centre)
            chained = chain_margins(inside, tails).masked_fill(~admissible, -math.inf)
            # One k for all x' is a k for each x', also where a tie elsewhere breaks the chains.
            overall = torch.maximum(uniform, chained)
        loosest, strictest = _longest_and_shortest(uniform > 0)
        return Outcome(
            margin=overall.amax(1),
            fallback=margins[:, 0].clamp(max=0.0),
            loosest=loosest,
            strictest=strictest,
            sets=_first(top, loosest, logits),
            strictest_sets=_first(top, strictest, logits),
        )

    def admissible(self, top: Tensor) -> Tensor:
        """Which k may serve, given the ranking; (batch, K) labels -> (batch, K) bool."""
        if self.outside is None:
            return self.serves.expand(top.shape)
        # stays[b, s, k-1]: the first k classes all lie inside set s
        stays = self.outside[:, top].transpose(0, 1).long().cumsum(2) == 0
        return stays.any(1) & self.serves


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
        allowed = self.allowed[predicted[:, 0]]
        best = links.rows(self.rows[predicted[:, 0]]).amax(1)
        margin = best.masked_fill(allowed, math.inf).amin(1)
        # Which classes are allowed hangs on the prediction at x, so that must be certain.
        lead = links.centre_rows(predicted)[:, 0].scatter(1, predicted, math.inf).amin(1)
        margin = torch.where(lead > 0, margin, torch.minimum(margin, lead))
        none = torch.zeros_like(predicted[:, 0])
        sets = allowed & (margin > 0)[:, None]
        return Outcome(margin, margin.clamp(max=0.0), none, none, sets, sets)


class CompositionHead(Head):
    """``&`` is the minimum, ``|`` the maximum of the parts' margins."""

    def __init__(self, parts: list[Head], *, every: bool) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.every = every

    def forward(self, logits: Tensor, links_in: LinksIn) -> Outcome:
        """Combine the parts; the sets are those of the parts with the longest, shortest k."""
        parts = tuple(part(logits, links_in) for part in self.parts)
        margins = torch.stack([part.margin for part in parts])
        fallbacks = torch.stack([part.fallback for part in parts])
        margin = margins.amin(0) if self.every else margins.amax(0)
        certified = margin > 0
        loosest, sets = _pick(parts, certified, loosest=True)
        strictest, strictest_sets = _pick(parts, certified, loosest=False)
        fallback = fallbacks.amin(0) if self.every else fallbacks.amax(0)
        return Outcome(margin, fallback, loosest, strictest, sets, strictest_sets, parts)


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


def _refuse_overrides(prop: PrefixProperty) -> None:
    for method in ("admissible", "formula"):
        if getattr(type(prop), method) is not getattr(PrefixProperty, method):
            raise InvalidProperty(
                f"{type(prop).__name__} overrides {method}(), which a head cannot follow: state "
                "the property by lengths() and affinity_sets."
            )


def _longest_and_shortest(certified: Tensor) -> tuple[Tensor, Tensor]:
    """Largest and smallest k (1-based) that is true; 0 if none; (batch, K) -> (batch,) twice."""
    lengths = torch.arange(1, certified.shape[1] + 1, device=certified.device)
    longest = torch.where(certified, lengths, 0).amax(1)
    beyond = certified.shape[1] + 1
    shortest = torch.where(certified, lengths, beyond).amin(1)
    return longest, torch.where(longest > 0, shortest, 0)


def _first(top: Tensor, count: Tensor, logits: Tensor) -> Tensor:
    """Mask of the first ``count`` classes of each row of ``top``; (batch, classes) bool."""
    ranks = torch.arange(top.shape[1], device=top.device)
    chosen = ranks < count[:, None]
    return torch.zeros_like(logits, dtype=torch.bool).scatter(1, top, chosen)


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
