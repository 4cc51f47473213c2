"""Links: lower bounds of "class j stays above class i", for the rows of (j, i) that are needed.

A link is the one quantity that the heads combine by min and max. There are three kinds, and the
same head runs on each: estimated margins (training), proved margins (certificates), and radii.
Only rows are ever computed, (batch, rows, classes), never (batch, classes, classes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from relaxcert.heads.ranked import (
    RankedLinks,
    lowest_outside,
    ranked_by_parts,
    ranked_rows,
    rows_of,
)
from relaxcert.lipschitz.directed import tensor_down, tensor_up
from relaxcert.lipschitz.pairs import Pairs, as_pairs

_ALLOWED = 2.0**-49  # 16 u
_UNDERFLOW = 2.0**-1060
_LARGE = 2.0**500


class Links(Protocol):
    """Lower bounds for rows of pairs, and their values at the centre of the ball."""

    def rows(self, labels: Tensor) -> Tensor:
        """Values of (labels[b, r], i) for every class i; (batch, rows) -> (batch, rows, classes).

        The value of a class over itself is meaningless and is always masked by the heads.
        """
        ...

    def centre_rows(self, labels: Tensor) -> Tensor:
        """The same with a ball of radius 0: positive where the order at x itself is certain."""
        ...


@dataclass(frozen=True)
class EstimatedLinks(RankedLinks):
    """Margins f_j - f_i - eps K_ji in training precision; differentiable, proves nothing.

    Attributes:
        logits: (batch, classes).
        pairs: D, (classes, classes), or :class:`Pairs`.
        reach: eps P, scalar: how far the features before the last layer can move.
    """

    logits: Tensor
    pairs: Tensor | Pairs
    reach: Tensor | float

    differentiable = True

    def rows(self, labels: Tensor) -> Tensor:
        """f_j - f_i - eps P D_ji."""
        distance = rows_of(as_pairs(self.pairs), labels)
        return self.centre_rows(labels) - self.reach * distance

    def centre_rows(self, labels: Tensor) -> Tensor:
        """f_j - f_i."""
        return _gather(self.logits, labels) - self.logits[:, None, :]

    def ranked(self, top: Tensor) -> Tensor:
        """The links in rank coordinates, without gradient; (batch, K) -> (batch, K, K + 1)."""
        lowest = ranked_by_parts(top, as_pairs(self.pairs), self._without_winner)
        return lowest.add_(_gather(self.logits, top))

    def centre_ranked(self, top: Tensor) -> Tensor:
        """The differences in rank coordinates, without gradient."""
        chosen = self.logits.gather(1, top)
        rest = self.logits.scatter(1, top, -math.inf).amax(1, keepdim=True)
        return chosen[:, :, None] - torch.cat((chosen, rest), dim=1)[:, None, :]

    def lowest_outside(self, winners: Tensor, top: Tensor) -> Tensor:
        """The class outside ``top`` with the smallest link; (batch, n), (batch, K) -> (batch, n).

        Of equal links it is any one of them.
        """
        return lowest_outside(winners, top, as_pairs(self.pairs), self._without_winner)

    def _without_winner(self, points: slice, distance: Tensor) -> Tensor:
        return distance.mul_(-self.reach).sub_(self.logits[points, None, :])

    def at(self, winners: Tensor, losers: Tensor) -> Tensor:
        """f_j - f_i - eps P D_ji for single pairs, with gradient; (batch, n)."""
        return self.centre_at(winners, losers) - self.reach * as_pairs(self.pairs).between(
            winners, losers
        )

    def centre_at(self, winners: Tensor, losers: Tensor) -> Tensor:
        """f_j - f_i for single pairs, with gradient; (batch, n)."""
        both = self.logits.gather(1, torch.cat((winners, losers), dim=1))
        won, lost = both.tensor_split(2, dim=1)
        return won - lost


@dataclass(frozen=True)
class ProvedLinks(RankedLinks):
    """Lower bounds of the real f_j(x') - f_i(x') over the ball; float64, rounded down.

        fl(f_j - f_i) - slack_j - slack_i - (e + eps P) D_ji   (soundness.md, level R)

    ``rows`` rounds after every operation. The ranked forms compute plainly and subtract, once a
    point, more than all their roundings: with u = 2^-53, F = max |f| + max slack, d = e + eps P,
    each intermediate is at most 2 F + d max D, there are eight of them, each rounded once, hence

        allowance = 16 u (F + d max D) + 2^-1060     (twice what is needed; underflow included)

    Attributes:
        logits: (batch, classes), float64, as computed.
        slack: (batch, classes), bound of the last layer's rounding.
        error: (batch,), e, bound of the rounding before the last layer.
        pairs: D, (classes, classes), verified, or :class:`Pairs`.
        reach: eps P, verified and rounded up.
        product: P, rounded up; given where radii are wanted.
    """

    logits: Tensor
    slack: Tensor
    error: Tensor
    pairs: Tensor | Pairs
    reach: float
    product: float | None = None

    def rows(self, labels: Tensor) -> Tensor:
        """The bound over the ball."""
        return self._rows(labels, tensor_up(self.error + self.reach))

    def centre_rows(self, labels: Tensor) -> Tensor:
        """The bound at x alone."""
        return self._rows(labels, self.error)

    def _rows(self, labels: Tensor, distance: Tensor) -> Tensor:
        pairs = rows_of(as_pairs(self.pairs), labels)
        movement = tensor_up(distance[:, None, None] * pairs)
        return tensor_down(self.difference(labels) - movement)

    def difference(self, labels: Tensor) -> Tensor:
        """fl(f_j - f_i) - slack_j - slack_i, rounded down."""
        low = tensor_down(self.logits - self.slack)
        high = tensor_up(self.logits + self.slack)
        return tensor_down(_gather(low, labels) - high[:, None, :])

    def ranked(self, top: Tensor) -> Tensor:
        """The bounds over the ball in rank coordinates; (batch, K) -> (batch, K, K + 1)."""
        return self._ranked(top, self.error + self.reach)

    def centre_ranked(self, top: Tensor) -> Tensor:
        """The bounds at x alone in rank coordinates."""
        return self._ranked(top, self.error)

    def _ranked(self, top: Tensor, distance: Tensor) -> Tensor:
        high = self.logits + self.slack
        scale = -distance[:, None, None]

        def combine(points: slice, pairs: Tensor) -> Tensor:
            return pairs.mul_(scale[points]).sub_(high[points, None, :])

        lowest = ranked_by_parts(top, as_pairs(self.pairs), combine)
        return lowest.add_(self.low(top, distance))

    def allowance(self, distance: Tensor) -> Tensor:
        """More than all roundings of the ranked forms; (batch,)."""
        size = self.logits.abs().amax(1) + self.slack.amax(1)
        return (size + distance * as_pairs(self.pairs).largest) * _ALLOWED + _UNDERFLOW

    def low(self, labels: Tensor, distance: Tensor) -> Tensor:
        """f_j - slack_j - allowance, by which every rounding is paid; (batch, n) -> (b, n, 1)."""
        paid = _gather(self.slack, labels) + self.allowance(distance)[:, None, None]
        return _gather(self.logits, labels) - paid


@dataclass(frozen=True)
class RadiusLinks(RankedLinks):
    """The largest radius at which each link is still proved, in units of the input norm.

    (fl(f_j - f_i) - slack_j - slack_i - e D_ji) / (P D_ji), rounded down; 0 if that is not
    positive; inf where the two logits differ by a constant.
    """

    proved: ProvedLinks
    product: float

    def rows(self, labels: Tensor) -> Tensor:
        """Radii of the links."""
        gap = self.proved.centre_rows(labels)
        distance = rows_of(as_pairs(self.proved.pairs), labels)
        speed = tensor_up(self.product * distance)
        radius = tensor_down(gap / speed).clamp(min=0.0)
        # Constants are recognised exactly; a NaN speed (0 times inf) is a radius of 0.
        never = (distance == 0.0) & math.isfinite(self.product)
        radius = radius.masked_fill(never | (self.product == 0.0), math.inf)
        return torch.where((gap > 0.0) & ~speed.isnan(), radius, torch.zeros_like(gap))

    def centre_rows(self, labels: Tensor) -> Tensor:
        """Margins (not radii) at x alone."""
        return self.proved.centre_rows(labels)

    def ranked(self, top: Tensor) -> Tensor:
        """Radii in rank coordinates; (batch, K) -> (batch, K, K + 1)."""
        proved, all_pairs = self.proved, as_pairs(self.proved.pairs)
        if all_pairs.tiny:
            return ranked_rows(self.rows(top), top)
        # Sizes are limited so that a quotient is inf only where the distance is 0: a constant.
        high = (proved.logits + proved.slack).clamp(min=-_LARGE)
        low = proved.low(top, proved.error).clamp(max=_LARGE)
        scale = proved.error[:, None, None]

        def combine(points: slice, pairs: Tensor) -> Tensor:
            movement = (pairs * scale[points]).add_(high[points, None, :])
            return (low[points] - movement).div_(pairs)

        ratio = ranked_by_parts(top, all_pairs, combine)
        if self.product == 0.0:
            return torch.where(ratio > 0.0, math.inf, 0.0).to(ratio)
        # Rounding is monotone, so that of the two divisions may follow the minimum.
        radius = tensor_down(tensor_down(ratio) / self.product)
        constant = ratio.isposinf() & math.isfinite(self.product)
        # NaN (0 / 0, or the product inf) is a radius of 0.
        return torch.where(radius > 0.0, radius, 0.0).masked_fill(constant, math.inf)

    def centre_ranked(self, top: Tensor) -> Tensor:
        """Margins (not radii) at x alone, in rank coordinates."""
        return self.proved.centre_ranked(top)


@dataclass(frozen=True)
class PossibleLinks(RankedLinks):
    """Upper bounds of the exact links f_j - f_i - eps P D_ji, rounded up; never a proof.

        fl(f_j - f_i) + slack_j + slack_i + e D_ji - eps P D_ji

    Where one is not positive, no certificate with these bounds can rely on the exact link.
    """

    proved: ProvedLinks

    def rows(self, labels: Tensor) -> Tensor:
        """Upper bounds over the ball; (batch, rows) -> (batch, rows, classes)."""
        return self._rows(labels, self.proved.error - self.proved.reach)

    def centre_rows(self, labels: Tensor) -> Tensor:
        """Upper bounds at x alone."""
        return self._rows(labels, self.proved.error)

    def ranked(self, top: Tensor) -> Tensor:
        """Upper bounds over the ball in rank coordinates; (batch, K) -> (batch, K, K + 1)."""
        return self._ranked(top, self.proved.error - self.proved.reach)

    def centre_ranked(self, top: Tensor) -> Tensor:
        """Upper bounds at x alone in rank coordinates."""
        return self._ranked(top, self.proved.error)

    def _rows(self, labels: Tensor, scale: Tensor) -> Tensor:
        pairs = rows_of(as_pairs(self.proved.pairs), labels)
        return self._combined(slice(None), pairs, scale) + self._high(labels)

    def _ranked(self, top: Tensor, scale: Tensor) -> Tensor:
        def combine(points: slice, pairs: Tensor) -> Tensor:
            return self._combined(points, pairs, scale)

        lowest = ranked_by_parts(top, as_pairs(self.proved.pairs), combine)
        return lowest.add_(self._high(top))

    def _combined(self, points: slice, pairs: Tensor, scale: Tensor) -> Tensor:
        low = self.proved.logits[points] - self.proved.slack[points]
        return pairs.mul_(scale[points, None, None]).sub_(low[:, None, :])

    def _high(self, labels: Tensor) -> Tensor:
        allowance = self.proved.allowance(self.proved.error + self.proved.reach)
        added = _gather(self.proved.slack, labels) + allowance[:, None, None]
        return _gather(self.proved.logits, labels) + added


def _gather(values: Tensor, labels: Tensor) -> Tensor:
    return values.gather(1, labels)[:, :, None]
