"""Prefix margins: from links to the margin of every top-k set (paper, section 5.2).

With classes in rank coordinates and L[a, b] the link "rank a over rank b":

    m^k = min over a < k <= b of L[a, b]        (0-based ranks; equations 1 and 10)

The classes are never sorted: the top K are found, and of the rest only the minimum is needed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def split_links(rows: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """Separate the links of the top classes into those among themselves and the rest.

    Args:
        rows: links of the top classes over all classes, (batch, K, classes), K < classes.
        top: their indices in descending logit order, (batch, K).

    Returns:
        inside, (batch, K, K), ``inside[:, a, b]`` = L[a, b] for ranks below K; and
        tails, (batch, K, K), ``tails[:, a, k-1]`` = min over ranks b >= k of L[a, b].

    Ranks are told apart by *index*, never by value: equal logits are different classes.
    """
    inside = rows.gather(2, top[:, None, :].expand(-1, top.shape[1], -1))
    in_top = torch.zeros_like(rows[:, 0], dtype=torch.bool).scatter(1, top, value=True)
    rest = rows.masked_fill(in_top[:, None, :], math.inf).amin(2, keepdim=True)
    # from_rank[a, b] = min of L[a, b'] over b <= b' < K
    from_rank = inside.flip(2).cummin(2).values.flip(2)
    tails = torch.cat((torch.minimum(from_rank[:, :, 1:], rest), rest), dim=2)
    return inside, tails


def prefix_margins(tails: Tensor) -> Tensor:
    """m^k for k = 1..K: the smallest link that crosses the boundary after rank k.

    shape: (batch, K, K) -> (batch, K)
    """
    return tails.cummin(1).values.diagonal(dim1=1, dim2=2)


def chain_margins(inside: Tensor, tails: Tensor) -> Tensor:
    """Pointwise margins V^k, k = 1..K, for "at each x' one of F^1..F^k is unchanged".

    A point x' breaks F^1..F^k only if reversed links (a, b], "rank b reaches rank a", cover all
    boundaries 1..k. Two that merely touch, (a, p] and (p, b], imply (a, b] by transitivity, so
    chains whose links properly overlap suffice. A chain is impossible if one of its links is
    proved, hence V^k is the weakest over chains of the best link (design, section 1):

        D[r] = min(L[0, r], min over 2 <= p < r of max(D[p], min over 1 <= a < p of L[a, r]))
        V^k  = the same with L[a, r] replaced by min over r >= k of L[a, r], and p < k

    shape: (batch, K, K), (batch, K, K) -> (batch, K). Needs strict order at x at every boundary up
    to k: see ``unbroken_prefixes``.
    """
    depth = inside.shape[1]
    covered: list[Tensor] = []  # covered[p - 2] = D[p]
    for rank in range(2, depth):
        covered.append(_extend(inside[:, :, rank], covered))
    margins = [_extend(tails[:, :, k - 1], covered[: max(0, k - 2)]) for k in range(1, depth + 1)]
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
