"""Prefix margins: from links to the margin of every top-k set (paper, section 5.2).

With classes in rank coordinates and L[a, b] the link "rank a over rank b":

    m^k = min over a < k <= b of L[a, b]        (0-based ranks; equations 1 and 10)

The classes are never sorted: the top K are found, and of the rest only the minimum is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor


def prefix_margins(ranked: Tensor) -> Tensor:
    """m^k for k = 1..K: the smallest link that crosses the boundary after rank k.

    Args:
        ranked: links in rank coordinates, (batch, K, K + 1); the last column is the smallest link
            to the ranks beyond K (see ``heads/ranked.py``).

    Returns:
        (batch, K).
    """
    depth = ranked.shape[1]
    return torch.stack([ranked[:, :k, k:].amin((1, 2)) for k in range(1, depth + 1)], dim=1)


def crossings(depth: int) -> Tensor:
    """Which links cross the boundary after rank k: a < k <= b; (K, K, K + 1) bool."""
    winner = torch.arange(depth)[None, :, None]
    loser = torch.arange(depth + 1)[None, None, :]
    boundary = torch.arange(1, depth + 1)[:, None, None]
    return (winner < boundary) & (boundary <= loser)


def chain_margins(ranked: Tensor) -> Tensor:
    """Pointwise margins V^k, k = 1..K, for "at each x' one of F^1..F^k is unchanged".

    A point x' breaks F^1..F^k only if reversed links (a, b], "rank b reaches rank a", cover all
    boundaries 1..k. Two that merely touch, (a, p] and (p, b], imply (a, b] by transitivity, so
    chains whose links properly overlap suffice. A chain is impossible if one of its links is
    proved, hence V^k is the weakest over chains of the best link (design, section 1):

        D[r] = min(L[0, r], min over 2 <= p < r of max(D[p], min over 1 <= a < p of L[a, r]))
        V^k  = the same with L[a, r] replaced by min over r >= k of L[a, r], and p < k

    shape: (batch, K, K + 1) -> (batch, K). Needs strict order at x at every boundary up to k: see
    ``unbroken_prefixes``.
    """
    depth = ranked.shape[1]
    # tails[:, :, k] = min over ranks b >= k of L[a, b]
    tails = ranked.flip(2).cummin(2).values.flip(2)
    covered: list[Tensor] = []  # covered[p - 2] = D[p]
    for rank in range(2, depth):
        covered.append(_extend(ranked[:, :, rank], covered))
    margins = [_extend(tails[:, :, k], covered[: max(0, k - 2)]) for k in range(1, depth + 1)]
    return torch.stack(margins, dim=1)


def _extend(link: Tensor, covered: list[Tensor]) -> Tensor:
    """min(L[0], min over p of max(D[p], min over 1 <= a < p of L[a])) for one right end."""
    best = link[:, 0]
    for place, margin in enumerate(covered):
        overlapping = link[:, 1 : place + 2].amin(1)
        best = torch.minimum(best, torch.maximum(margin, overlapping))
    return best


def unbroken_prefixes(centre_margins: Tensor) -> Tensor:
    """The k up to which the order at x is certain at every boundary; (batch, K) bool.

    A tie at boundary k makes k itself useless, and lets a violation jump over it without a
    reversed link, so that longer prefixes cannot rely on overlapping chains either.
    """
    return (centre_margins > 0).long().cumprod(1).bool()
