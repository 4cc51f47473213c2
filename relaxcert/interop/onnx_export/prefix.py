"""Prefix margins (heads/prefix.py, heads/ranked.py) as ONNX; the formulas stand there."""

from __future__ import annotations

import math

import torch

from relaxcert.interop.onnx_export.writer import Writer


def ranked_rows(write: Writer, rows: str, top: str, chosen: str, depth: int) -> str:
    """From links over all classes to rank coordinates; (b, K, C), (b, K) -> (b, K, K + 1).

    ``chosen``: (b, K, C) bool, whether the class stands at the rank.
    """
    # ranked[:, a, b] = L[a, b] for b < K
    repeated = write.op("Expand", write.unsqueeze(top, 1), write.whole(1, depth, 1))
    inside = write.op("GatherElements", rows, repeated, axis=2)
    # ranked[:, a, K] = min over ranks b >= K of L[a, b]
    among = write.reduce("ReduceMax", write.cast(chosen, torch.int64), 1, keep=True)
    rest = write.op("Where", write.cast(among, torch.bool), write.double(math.inf), rows)
    lowest = write.reduce("ReduceMin", rest, 2, keep=True)
    return write.op("Concat", inside, lowest, axis=2)


def prefix_margins(write: Writer, ranked: str, depth: int) -> list[str]:
    """m^k for k = 1..K, each (batch, 1): the smallest link that crosses the boundary after k."""
    margins: list[str] = []
    for k in range(1, depth + 1):
        winners = write.slice(ranked, 1, 0, k)
        crossing = write.slice(winners, 2, k, depth + 1)
        lowest = write.reduce("ReduceMin", crossing, 1, 2)
        margins.append(write.unsqueeze(lowest, 1))
    return margins


def chain_margins(write: Writer, ranked: str, depth: int) -> list[str]:
    """V^k for k = 1..K, each (batch, 1); see ``heads/prefix.py`` for the argument."""
    columns = [
        write.op("Squeeze", write.slice(ranked, 2, rank, rank + 1), write.whole(2))
        for rank in range(depth + 1)
    ]
    tails = [columns[depth]]
    for column in reversed(columns[:depth]):
        tails.insert(0, write.op("Min", column, tails[0]))
    covered: list[str] = []  # covered[p - 2] = D[p]
    for rank in range(2, depth):
        covered.append(_extend(write, columns[rank], covered))
    return [_extend(write, tails[k], covered[: max(0, k - 2)]) for k in range(1, depth + 1)]


def _extend(write: Writer, link: str, covered: list[str]) -> str:
    """min(L[0], min over p of max(D[p], min over 1 <= a < p of L[a])) for one right end."""
    best = write.slice(link, 1, 0, 1)
    for place, margin in enumerate(covered):
        overlapping = write.reduce("ReduceMin", write.slice(link, 1, 1, place + 2), 1, keep=True)
        best = write.op("Min", best, write.op("Max", margin, overlapping))
    return best
