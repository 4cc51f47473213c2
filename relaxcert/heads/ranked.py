"""Links in rank coordinates, without the (batch, K, classes) tensor of all of them.

Prefix margins need the links among the top K classes, and of the others only the smallest:

    ranked[:, a, b] = L[a, b] for b < K,      ranked[:, a, K] = min over ranks b >= K of L[a, b]

Points are taken so many at a time that the rows in work stay in the processor's cache; compiled
code, which fuses the passes, takes all at once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from relaxcert.lipschitz.pairs import Pairs

_IN_CACHE = 2**21  # bytes of rows in work

# (points, D of their top classes: (points, K, classes), may be overwritten) -> links, same shape
Combine = Callable[[slice, Tensor], Tensor]


class RankedLinks(ABC):
    """Links that reduce their rows themselves."""

    @abstractmethod
    def ranked(self, top: Tensor) -> Tensor:
        """Links over the ball in rank coordinates; (batch, K) labels -> (batch, K, K + 1)."""

    @abstractmethod
    def centre_ranked(self, top: Tensor) -> Tensor:
        """The same with a ball of radius 0."""


def ranked_rows(rows: Tensor, top: Tensor) -> Tensor:
    """From links over all classes to rank coordinates; (b, K, C), (b, K) -> (b, K, K + 1).

    Ranks are told apart by *index*, never by value: equal logits are different classes.
    """
    return _ranked_in_place(rows.clone(), top)


def ranked_by_parts(top: Tensor, pairs: Pairs, combine: Combine) -> Tensor:
    """:func:`ranked_rows` of what ``combine`` makes of D; (batch, K) -> (batch, K, K + 1)."""

    def reduce(points: slice) -> Tensor:
        part = top[points]
        return _ranked_in_place(combine(points, rows_of(pairs, part)), part)

    return _by_parts(top, pairs, reduce)


def lowest_outside(winners: Tensor, top: Tensor, pairs: Pairs, combine: Combine) -> Tensor:
    """The class outside ``top`` with the smallest link; (batch, n), (batch, K) -> (batch, n)."""

    def reduce(points: slice) -> Tensor:
        links = combine(points, rows_of(pairs, winners[points]))
        places = top[points, None, :].expand(-1, links.shape[1], -1)
        return links.scatter_(2, places, math.inf).argmin(2)

    return _by_parts(winners, pairs, reduce)


def _by_parts(labels: Tensor, pairs: Pairs, reduce: Callable[[slice], Tensor]) -> Tensor:
    batch, count = labels.shape
    size = max(1, _IN_CACHE // (count * pairs.classes * pairs.bytes_each))
    if torch.compiler.is_compiling() or size >= batch:
        return reduce(slice(None))
    return torch.cat([reduce(slice(start, start + size)) for start in range(0, batch, size)])


def rows_of(pairs: Pairs, labels: Tensor) -> Tensor:
    """D[labels[b, n], i] for every class i; (batch, n) -> (batch, n, C)."""
    return pairs.rows(labels.flatten()).view(*labels.shape, pairs.classes)


def _ranked_in_place(rows: Tensor, top: Tensor) -> Tensor:
    places = top[:, None, :].expand(-1, top.shape[1], -1)
    inside = rows.gather(2, places)
    rest = rows.scatter_(2, places, math.inf).amin(2, keepdim=True)
    return torch.cat((inside, rest), dim=2)
