"""Differentiable estimates of the constants of all nodes, for training; nothing is proved here."""

from __future__ import annotations

import torch
from torch import Tensor

from relaxcert.lipschitz.graph import Graph
from relaxcert.lipschitz.live_folding import Segment, segment_estimate
from relaxcert.lipschitz.power import safe_norm
from relaxcert.spec.ball import Norm

Total = Tensor | float


def estimated_totals(
    graph: Graph,
    norm: Norm,
    iterates: list[Tensor | None],
    segments: dict[int, Segment],
) -> tuple[list[Total], list[Tensor | None]]:
    """Per node of ``graph.body`` the constant of the map from the input to it, and next iterates.

    Combined as the verified bounds are: products, sums, norms of the parts.

    Args:
        graph: of the live network.
        norm: of the ball.
        iterates: one a node after the input, in order; None where a rule keeps none.
        segments: in l2, the linear maps that are estimated as a whole, by place.
    """
    totals: list[Total] = [1.0]
    following: list[Tensor | None] = []
    for index, node in enumerate(graph.body[1:]):
        parts = [totals[place] for place in node.operands]
        new: Tensor | None = None
        segment, iterate = segments.get(index + 1), iterates[index]
        if segment is not None and iterate is not None and norm == "l2":
            factor, new = segment_estimate(graph, segment, iterate)
            totals.append(factor * totals[segment.anchor])
        elif node.kind == "layer" and node.rule is not None:
            factor, new = node.rule.estimate(node.layer, norm, iterate)
            totals.append(parts[0] * factor)
        elif node.kind == "sum" or norm == "l1":
            totals.append(sum(parts[1:], start=parts[0]))
        else:
            totals.append(_joined(parts, norm))
        following.append(new)
    return totals, following


def _joined(parts: list[Total], norm: Norm) -> Total:
    reference = next((part for part in parts if isinstance(part, Tensor)), None)
    stacked = torch.stack([_like(part, reference) for part in parts])
    return stacked.amax() if norm == "linf" else safe_norm(stacked)


def _like(part: Total, reference: Tensor | None) -> Tensor:
    return torch.as_tensor(part) if reference is None else torch.as_tensor(part).to(reference)
