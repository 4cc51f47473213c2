"""Links whose rounding was bounded before the pass ran: all allowances of a point in two numbers.

In the precision of the network, with per-point numbers that are affine in ||x||
(:mod:`relaxcert.lipschitz.a_priori`):

    distance d >= e + eps P           paid c >= 2 slack + 8 u (F + d max D) + underflow
    link = fl(f_j - c) - fl(f_i + d D_ji)        at most  f_j - f_i - 2 slack - d D_ji

F >= max |f|. Three roundings of numbers up to F + d D and one of a number up to 2 F + d D + c are
at most u (4 F + 3 d D + 2 c) in all, for which c pays (widened by 2^-16 for its own share).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relaxcert.heads.ranked import RankedLinks, ranked_by_parts, rows_of
from relaxcert.lipschitz.a_priori import Affine, RoundingBeforehand
from relaxcert.lipschitz.directed import ETA, UNIT, norm_surplus, raw_norm_dtype, tensor_up
from relaxcert.lipschitz.pairs import Pairs, TablePairs

_WIDENED = {torch.float32: 1.0 + 2.0**-20, torch.float64: 1.0 + 2.0**-48}
# Of eps: what a point may lose before the running bound is asked.
_GIVEN_AWAY = 2.0**-5


@dataclass(frozen=True)
class BeforehandLinks(RankedLinks):
    """Lower bounds of the real f_j(x') - f_i(x') over the ball; see the module's text.

    Attributes:
        logits: (batch, classes), as computed.
        pairs: D in the dtype of the logits, rounded up.
        distance: (batch,), d.
        error: (batch,), the same with eps = 0.
        paid: (batch,), c.
    """

    logits: Tensor
    pairs: Pairs
    distance: Tensor
    error: Tensor
    paid: Tensor

    def rows(self, labels: Tensor) -> Tensor:
        """The bound over the ball; (batch, rows) -> (batch, rows, classes)."""
        return self._rows(labels, self.distance)

    def centre_rows(self, labels: Tensor) -> Tensor:
        """The bound at x alone."""
        return self._rows(labels, self.error)

    def ranked(self, top: Tensor) -> Tensor:
        """The bounds over the ball in rank coordinates; (batch, K) -> (batch, K, K + 1)."""
        return self._ranked(top, self.distance)

    def centre_ranked(self, top: Tensor) -> Tensor:
        """The bounds at x alone in rank coordinates."""
        return self._ranked(top, self.error)

    def _rows(self, labels: Tensor, distance: Tensor) -> Tensor:
        losers = self._losers(slice(None), rows_of(self.pairs, labels), distance, -self.logits)
        return losers.add_(self._winners(labels))

    def _ranked(self, top: Tensor, distance: Tensor) -> Tensor:
        negative = -self.logits

        def combine(points: slice, rows: Tensor) -> Tensor:
            return self._losers(points, rows, distance, negative)

        return ranked_by_parts(top, self.pairs, combine).add_(self._winners(top))

    def _losers(self, points: slice, rows: Tensor, distance: Tensor, negative: Tensor) -> Tensor:
        """-(f_i + d D_ji), in place of D: one pass."""
        scale = distance[points, None, None]
        return torch.addcmul(negative[points, None, :], rows, scale, value=-1.0, out=rows)

    def _winners(self, labels: Tensor) -> Tensor:
        return self.logits.gather(1, labels).sub_(self.paid[:, None])[:, :, None]


@dataclass(frozen=True, slots=True)
class Allowances:
    """The numbers of one ball: (4, 1) each, of distance, error, paid and lowest.

    With ``raw`` the norm as it is computed, value = at_zero + slope raw. A link below ``lowest`` is
    not proved by the running bound either, not even with an eps that is smaller by 1/32.

    Attributes:
        at_zero: in the dtype of the network.
        slope: likewise.
        limit: the largest raw norm for which they hold.
        order: of the norm.
        largest: max D.
        given_away: how much of a margin may be lost before the running bound is asked.
    """

    at_zero: Tensor
    slope: Tensor
    limit: float
    order: float
    largest: float
    given_away: float

    def at(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(4, batch) values and (batch,) bool, whether they hold; points (batch, ...)."""
        flat = points.detach().flatten(1)
        kept = raw_norm_dtype(flat.shape[1], points.dtype)
        raw = torch.linalg.vector_norm(flat, self.order, dim=1, dtype=kept).to(points.dtype)
        return torch.addcmul(self.at_zero, self.slope, raw[None, :]), raw <= self.limit


def allowances(
    known: RoundingBeforehand, reach: float, largest: float, order: float, points: Tensor
) -> Allowances:
    """For one ball; ``largest``: max D, ``points``: of the shape and dtype that they are for."""
    dtype, count = points.dtype, points[0].numel()
    unit, tiny = UNIT[dtype], ETA[dtype]
    distance = known.error.plus(Affine(reach, 0.0))
    rounded = known.logits.plus(distance.times(largest)).times(8.0 * unit)
    paid = known.slack.times(2.0).plus(rounded, Affine(64.0 * tiny, 0.0)).times(1.0 + 2.0**-16)
    rows = [_in_raw(value, count, order, dtype) for value in (distance, known.error, paid)]
    # What the running bound may find is at most this much more; a little is given away for speed.
    uncertain = [max(0.0, a - b) * largest for a, b in zip(known.error, known.certain, strict=True)]
    gain = _in_raw(paid.plus(Affine(*uncertain)), count, order, dtype)
    given_away = reach * largest * _GIVEN_AWAY
    rows.append(Affine(given_away - gain.at_zero, -gain.slope))
    at_zero, slope = (
        torch.tensor(column, dtype=torch.float64).to(points.device, dtype)[:, None]
        for column in zip(*rows, strict=True)
    )
    factor, term = norm_surplus(count, order, dtype)
    limit = max(0.0, (known.limit - term) / factor * (1.0 - 2.0**-20))
    return Allowances(at_zero, slope, limit, order, largest, given_away)


def _in_raw(value: Affine, count: int, order: float, dtype: torch.dtype) -> Affine:
    """As a function of the norm as computed, so large that evaluating it in ``dtype`` is paid.

    Both numbers are at least the smallest normal one, so that their own conversion is relative.
    """
    factor, term = norm_surplus(count, order, dtype)
    if raw_norm_dtype(count, dtype) != dtype:
        term += ETA[dtype]  # of a norm in float64, which is then converted
    at_zero = value.at_zero + value.slope * term
    smallest = torch.finfo(dtype).tiny
    widened = _WIDENED[dtype]
    return Affine(
        max(at_zero * widened, 2.0 * smallest), max(value.slope * factor * widened, smallest)
    )


def pairs_in(pairs: Pairs, dtype: torch.dtype) -> Pairs | None:
    """D in another dtype, rounded up; None where D is not a table."""
    if not isinstance(pairs, TablePairs):
        return None
    if pairs.table.dtype == dtype:
        return pairs
    near = pairs.table.to(dtype)
    return TablePairs(torch.where(near < pairs.table, tensor_up(near), near))
