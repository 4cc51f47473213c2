"""What a head is, and what it says."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from relaxcert.heads.links import Links
from relaxcert.spec.ball import Ball

LinksIn = Callable[[Ball], Links]


@dataclass(frozen=True)
class Margin:
    """What a head says of a batch in one number a point.

    Attributes:
        margin: (batch,), positive where the property is guaranteed; -inf where nothing can serve.
        fallback: (batch,), a finite, non-positive stand-in for -inf, to keep losses finite.
    """

    margin: Tensor
    fallback: Tensor


@dataclass(frozen=True)
class Outcome(Margin):
    """What a head says of a batch, with sets.

    Attributes:
        loosest: (batch,), largest certified prefix length, 0 if there is none.
        strictest: (batch,), smallest one.
        sets: (batch, classes), the classes that the loosest guarantee confines to.
        strictest_sets: (batch, classes), likewise for the strictest.
        radius: (batch,), the largest proved radius, where the links tell radii.
        parts: the outcomes of the parts of a composition.
        prefix_radii: (batch, K), likewise for each F^k by itself; not positive where k may not
            serve. Prefix properties only.
    """

    loosest: Tensor
    strictest: Tensor
    sets: Tensor
    strictest_sets: Tensor
    parts: tuple[Outcome, ...] = ()
    radius: Tensor | None = None
    prefix_radii: Tensor | None = None


class Head(nn.Module):
    """A compiled property; :func:`compile_property` builds it."""

    @abstractmethod
    def forward(self, logits: Tensor, links_in: LinksIn) -> Outcome:
        """Combine the links of a batch; logits (batch, classes) give the ranking only."""

    @abstractmethod
    def margin(self, logits: Tensor, links_in: LinksIn) -> Margin:
        """The margin alone; differentiable where the links are :class:`EstimatedLinks`.

        The active pair of classes is found without gradient and its link computed once more with
        it. Where several pairs are active, the margin has no gradient but subgradients, and that of
        one of these pairs is given.
        """
