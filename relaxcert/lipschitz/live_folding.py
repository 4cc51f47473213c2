"""Consecutive linear layers as one map, on live tensors, for the estimates of training.

Mirrors :mod:`relaxcert.lipschitz.folding` where that forms a map whatever the size: at most one
convolution with factors around it, or dense layers, or sums of such. Power iterations then run
through the layers themselves, forwards and backwards.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relaxcert.lipschitz.graph import Graph, Node
from relaxcert.lipschitz.linear_maps import is_moving
from relaxcert.lipschitz.live_convolution import Weighted, apply_adjoint, apply_linear
from relaxcert.lipschitz.power import ITERATIONS, safe_norm, unit_vector
from relaxcert.lipschitz.registry import kind_of
from relaxcert.nn.shapes import Scale

_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Kinds = Counter[str]


@dataclass(frozen=True)
class Segment:
    """The linear map from the value of ``anchor`` to that of ``place``; ``nodes`` in order."""

    anchor: int
    place: int
    nodes: tuple[int, ...]
    kinds: Kinds = field(default_factory=Counter[str])

    @property
    def gains(self) -> bool:
        """Whether it is more than one layer, so that its norm is less than the product."""
        return self.kinds["sum"] > 0 or self.kinds.total() - self.kinds["scalar"] > 1


def segments_of(graph: Graph) -> dict[int, Segment]:
    """Per place the segment whose estimate replaces the product, for a graph with shapes."""
    if any(node.shape is None for node in graph.nodes):
        return {}
    known: list[dict[int, Segment]] = []
    for place, node in enumerate(graph.body):
        found = _through(node, place, known)
        found[place] = Segment(place, place, ())
        known.append(found)
    chosen: dict[int, Segment] = {}
    for place, found in enumerate(known):
        useful = [segment for segment in found.values() if segment.gains]
        if useful:
            nearest = graph.nodes[place].kind == "sum"
            pick = max if nearest else min
            chosen[place] = pick(useful, key=lambda segment: segment.anchor)
    return chosen


def _through(node: Node, place: int, known: list[dict[int, Segment]]) -> dict[int, Segment]:
    if node.kind == "sum":
        left, right = (known[operand] for operand in node.operands)
        found = {
            anchor: _joined(place, "sum", left[anchor], right[anchor])
            for anchor in left.keys() & right.keys()
        }
    else:
        kind = _kind(node)
        if kind is None:
            return {}
        before = known[node.operands[0]]
        found = {anchor: _joined(place, kind, segment) for anchor, segment in before.items()}
    return {anchor: segment for anchor, segment in found.items() if _forms_a_map(segment.kinds)}


def _joined(place: int, kind: str, *parts: Segment) -> Segment:
    nodes = sorted({node for part in parts for node in part.nodes} | {place})
    kinds = sum((part.kinds for part in parts), Counter[str]())
    return Segment(parts[0].anchor, place, tuple(nodes), kinds + Counter({kind: kind != "move"}))


def _forms_a_map(kinds: Kinds) -> bool:
    """What the verified side folds for every size: see ``linear_maps``."""
    if kinds["convolution"] > 1 or (kinds["convolution"] and kinds["dense"]):
        return False
    # x + f(x): a kernel takes a sum with a plain identity; factors a channel would need another.
    return not (kinds["sum"] and kinds["factors"] and kinds["convolution"] and kinds["sum"] > 1)


def _kind(node: Node) -> str | None:
    if node.layer is None:
        return None
    if is_moving(node.layer):
        return "move"
    if isinstance(node.layer, Scale):
        return "scalar"
    kind = kind_of(node.layer)
    if kind is nn.Linear:
        return "dense" if node.shape is not None and len(node.shape) == 1 else None
    if kind in _CONVOLUTIONS:
        return "convolution"
    return "factors" if kind in _BATCH_NORMS else None


def segment_estimate(
    graph: Graph, segment: Segment, iterate: Tensor, iterations: int = ITERATIONS
) -> tuple[Tensor, Tensor]:
    """(sigma, next iterate) of a segment by the power method; iterate: (1, *anchor's shape)."""
    with torch.no_grad():
        vector = iterate
        for _ in range(iterations):
            image = _backward(graph, segment, _forward(graph, segment, vector))
            vector = torch.where(image.any(), unit_vector(image), vector)
    vector = vector.clone()
    return safe_norm(_forward(graph, segment, vector)), vector


def initial_iterate(graph: Graph, segment: Segment) -> Tensor:
    """A unit vector in the space of the anchor, (1, *shape)."""
    shape = graph.nodes[segment.anchor].shape or ()
    generator = torch.Generator().manual_seed(segment.place)
    return unit_vector(torch.randn(1, *shape, generator=generator))


def _forward(graph: Graph, segment: Segment, vector: Tensor) -> Tensor:
    values: dict[int, Tensor] = {segment.anchor: vector}
    for place in segment.nodes:
        node = graph.nodes[place]
        if node.kind == "sum":
            left, right = (values[operand] for operand in node.operands)
            values[place] = left + node.sign * right
        else:
            values[place] = _linear_part(node, values[node.operands[0]])
    return values[segment.place]


def _backward(graph: Graph, segment: Segment, vector: Tensor) -> Tensor:
    values: dict[int, Tensor] = {segment.place: vector}
    for place in reversed(segment.nodes):
        node, value = graph.nodes[place], values.pop(place)
        if node.kind == "sum":
            shares = ((node.operands[0], value), (node.operands[1], node.sign * value))
        else:
            shape = graph.nodes[node.operands[0]].shape or ()
            shares = ((node.operands[0], _adjoint_part(node, value, shape)),)
        for operand, share in shares:
            values[operand] = values[operand] + share if operand in values else share
    return values[segment.anchor]


def _linear_part(node: Node, value: Tensor) -> Tensor:
    """The layer without what it adds (bias, mean), and without dropping anything."""
    layer = node.layer
    if isinstance(layer, nn.Linear):
        return F.linear(value, layer.weight)
    if isinstance(layer, _CONVOLUTIONS):
        return apply_linear(layer, value)
    return _factored(layer, value.reshape(1, *(node.shape or ())))


def _adjoint_part(node: Node, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    layer = node.layer
    if isinstance(layer, nn.Linear):
        return F.linear(value, layer.weight.mT)
    if isinstance(layer, _CONVOLUTIONS):
        weighted: Weighted = layer
        return apply_adjoint(weighted, value, shape[1:])
    return _factored(layer, value.reshape(1, *shape))


def _factored(layer: nn.Module | None, value: Tensor) -> Tensor:
    """A factor a channel, or one for all; moving layers change nothing."""
    if isinstance(layer, Scale):
        return value * layer.factor
    if isinstance(layer, _BATCH_NORMS) and layer.running_var is not None:
        scale = (layer.running_var + layer.eps).rsqrt()
        weight: Tensor | None = getattr(layer, "weight", None)
        scale = scale if weight is None else scale * weight
        return value * scale.reshape(1, -1, *[1] * (value.dim() - 2))
    return value
