"""The heads as plainly as possible: every link of every top class, (batch, K, classes), autograd
through all of them. Slow references of ``heads/ranked.py`` and ``heads/prefix_head.py``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relaxcert.spec.prefix import PrefixProperty


def split(rows: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """Links among the top classes, (b, K, K), and tails[:, a, k-1] = min over ranks b >= k."""
    inside = rows.gather(2, top[:, None, :].expand(-1, top.shape[1], -1))
    in_top = torch.zeros_like(rows[:, 0], dtype=torch.bool).scatter(1, top, value=True)
    rest = rows.masked_fill(in_top[:, None, :], math.inf).amin(2, keepdim=True)
    from_rank = inside.flip(2).cummin(2).values.flip(2)
    return inside, torch.cat((torch.minimum(from_rank[:, :, 1:], rest), rest), dim=2)


def prefix_margins(tails: Tensor) -> Tensor:
    return tails.cummin(1).values.diagonal(dim1=1, dim2=2)


def chain_margins(inside: Tensor, tails: Tensor) -> Tensor:
    depth = inside.shape[1]
    covered = []
    for rank in range(2, depth):
        covered.append(_extend(inside[:, :, rank], covered))
    margins = [_extend(tails[:, :, k - 1], covered[: max(0, k - 2)]) for k in range(1, depth + 1)]
    return torch.stack(margins, dim=1)


def _extend(link: Tensor, covered: list[Tensor]) -> Tensor:
    best = link[:, 0]
    for place, margin in enumerate(covered):
        best = torch.minimum(best, torch.maximum(margin, link[:, 1 : place + 2].amin(1)))
    return best


def margins(prop: PrefixProperty, links, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Margin and stand-in of a prefix property; (batch,) twice."""
    lengths = list(prop.lengths())
    depth = max(lengths)
    top = logits.topk(depth, dim=1).indices
    inside, tails = split(links.rows(top), top)
    serves = torch.tensor([k in lengths for k in range(1, depth + 1)]).expand(top.shape)
    if prop.affinity_sets is not None:
        inside_set = [
            [
                any(set(row[:k]) <= set(members) for members in prop.affinity_sets.sets)
                for k in range(1, depth + 1)
            ]
            for row in top.tolist()
        ]
        serves = serves & torch.tensor(inside_set)
    each = prefix_margins(tails)
    overall = each.masked_fill(~serves, -math.inf)
    if prop.quantifier == "pointwise":
        centre = prefix_margins(split(links.centre_rows(top), top)[1])
        unbroken = (centre > 0).long().cumprod(1).bool()
        chains = chain_margins(inside, tails).masked_fill(~(serves & unbroken), -math.inf)
        overall = torch.maximum(overall, chains)
    return overall.amax(1), each[:, 0].clamp(max=0.0)
