"""The head of prefix properties: Local, TopK, RelaxedTopK, Affinity, and the user's own."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from relaxcert.errors import InvalidProperty
from relaxcert.heads.links import EstimatedLinks, Links, ProvedLinks, RadiusLinks
from relaxcert.heads.outcome import Head, LinksIn, Margin, Outcome
from relaxcert.heads.prefix import chain_margins, crossings, prefix_margins, unbroken_prefixes
from relaxcert.heads.ranked import RankedLinks, ranked_rows
from relaxcert.spec.prefix import PrefixProperty


class _Found(NamedTuple):
    """The margins of a batch, as far as they hang on the links.

    shape: ranked (batch, K, K + 1); all others (batch, K)
    """

    ranked: Tensor
    margins: Tensor  # m^k
    uniform: Tensor  # m^k of the admissible k, else -inf
    overall: Tensor  # in the property's own order of quantifiers
    admissible: Tensor
    unbroken: Tensor | None  # pointwise: up to which k the order at x is certain


class PrefixHead(Head):
    """Local, TopK, RelaxedTopK, Affinity, and prefix properties of the user's own."""

    serves: Tensor
    barred: Tensor
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
        # barred[k - 1]: which links do not cross the boundary after rank k
        barred = ~crossings(self.depth).flatten(1)
        self.register_buffer("barred", barred, persistent=False)
        outside = None
        # In how many affinity sets a class lies at most: a number here, so that no device is asked.
        self.sets_a_class = 1
        if prop.affinity_sets is not None:
            outside = torch.ones(len(prop.affinity_sets), num_classes, dtype=torch.bool)
            for row, members in enumerate(prop.affinity_sets.sets):
                outside[row, list(members)] = False
            self.sets_a_class = int((~outside).sum(0).amax())
        self.register_buffer("outside", outside, persistent=False)

    def forward(self, logits: Tensor, links_in: LinksIn) -> Outcome:
        """Equations 1 and 4: the largest m^k over the admissible k."""
        links = links_in(self.ball)
        top = logits.topk(self.depth, dim=1).indices
        found = self._search(links, top)
        found_margin = self._margin(links, top, found)
        loosest, strictest = _longest_and_shortest(found.uniform > 0)
        radius = prefix_radii = None
        if isinstance(links, ProvedLinks) and links.product is not None:
            ranked = RadiusLinks(links, links.product).ranked(top)
            reached = self._combine(ranked, found.admissible, found.unbroken)
            radius, prefix_radii = reached.overall.amax(1), reached.uniform
        return Outcome(
            margin=found_margin.margin,
            fallback=found_margin.fallback,
            loosest=loosest,
            strictest=strictest,
            sets=_first(top, loosest, logits),
            strictest_sets=_first(top, strictest, logits),
            radius=radius,
            prefix_radii=prefix_radii,
        )

    def margin(self, logits: Tensor, links_in: LinksIn) -> Margin:
        """The largest m^k over the admissible k."""
        links = links_in(self.ball)
        top = logits.topk(self.depth, dim=1).indices
        return self._margin(links, top, self._search(links, top))

    def _search(self, links: Links, top: Tensor) -> _Found:
        unbroken = None
        if isinstance(links, RankedLinks):
            with torch.no_grad():
                ranked = links.ranked(top)
                if self.pointwise:
                    unbroken = unbroken_prefixes(prefix_margins(links.centre_ranked(top)))
                return self._combine(ranked, self.admissible(top), unbroken)
        ranked = ranked_rows(links.rows(top), top)
        if self.pointwise:
            centre = ranked_rows(links.centre_rows(top), top)
            unbroken = unbroken_prefixes(prefix_margins(centre))
        return self._combine(ranked, self.admissible(top), unbroken)

    def _combine(self, ranked: Tensor, admissible: Tensor, unbroken: Tensor | None) -> _Found:
        """Uniform margins (admissible k only), and those of the property's own order."""
        margins = prefix_margins(ranked)
        uniform = _where_admissible(margins, admissible)
        overall = uniform
        if unbroken is not None:
            chains = _where_admissible(chain_margins(ranked), admissible)
            # One k for all x' is a k for each x', also where a tie elsewhere breaks the chains.
            overall = torch.maximum(uniform, chains.masked_fill(~unbroken, -math.inf))
        return _Found(ranked, margins, uniform, overall, admissible, unbroken)

    def _margin(self, links: Links, top: Tensor, found: _Found) -> Margin:
        if not isinstance(links, EstimatedLinks):
            return Margin(found.overall.amax(1), found.margins[:, 0].clamp(max=0.0))
        if self.pointwise:
            again = _with_gradient(links, top)
            found = self._combine(again, found.admissible, found.unbroken)
            return Margin(found.overall.amax(1), found.margins[:, 0].clamp(max=0.0))
        highest, k = found.uniform.max(1)
        # If no k may serve, the first is taken: the stand-in is made from m^1.
        place = found.ranked.flatten(1).masked_fill(self.barred[k], math.inf).argmin(1)
        value = active_link(links, top, place[:, None])
        return Margin(value.masked_fill(highest.isneginf(), -math.inf), value.clamp(max=0.0))

    def admissible(self, top: Tensor) -> Tensor:
        """Which k may serve, given the ranking; (batch, K) labels -> (batch, K) bool."""
        if self.outside is None:
            return self.serves.expand(top.shape)
        # stays[b, s, k-1]: the first k classes all lie inside set s
        stays = self.outside[:, top].transpose(0, 1).cumsum(2) == 0
        return stays.any(1) & self.serves


def ranked_links(links: Links, top: Tensor) -> Tensor:
    """The links in rank coordinates, without gradient; (batch, K) -> (batch, K, K + 1)."""
    if isinstance(links, RankedLinks):
        return links.ranked(top)
    return ranked_rows(links.rows(top), top)


def active_link(links: EstimatedLinks, top: Tensor, place: Tensor) -> Tensor:
    """With gradient: the link at ``place`` of the flattened (K, K + 1) links; -> (batch,)."""
    depth = top.shape[1]
    winner = top.gather(1, place.div(depth + 1, rounding_mode="floor"))
    with torch.no_grad():
        loser = links.lowest_outside(winner, top)
    if depth > 1:
        rank = place % (depth + 1)
        loser = torch.where(rank < depth, top.gather(1, rank.clamp(max=depth - 1)), loser)
    return links.at(winner, loser)[:, 0]


def _with_gradient(links: EstimatedLinks, top: Tensor) -> Tensor:
    """All links in rank coordinates with gradient, (batch, K, K + 1): chains need many of them."""
    depth = top.shape[1]
    with torch.no_grad():
        outside = links.lowest_outside(top, top)
    losers = torch.cat((top[:, None, :].expand(-1, depth, -1), outside[:, :, None]), dim=2)
    winners = top[:, :, None].expand(-1, -1, depth + 1)
    return links.at(winners.flatten(1), losers.flatten(1)).view(winners.shape)


def _where_admissible(margins: Tensor, admissible: Tensor) -> Tensor:
    return margins.masked_fill(~admissible, -math.inf)


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
