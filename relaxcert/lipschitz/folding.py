"""Consecutive linear layers as one linear map: tighter than the product of their bounds, for free.

For each node the maps from some earlier nodes (anchors) are known, where everything between is
linear. If M is the map from anchor a, then total(node) <= ||M|| total(a). So batch normalisation
is folded into the convolution before it, dense layers are multiplied out, and x + f(x) with linear
f is bounded by ||I + F|| in place of 1 + ||F||.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from relaxcert.lipschitz.convolution_map import Convolution
from relaxcert.lipschitz.directed import multiply_up
from relaxcert.lipschitz.graph import Graph, Node
from relaxcert.lipschitz.linear_maps import (
    IDENTITY,
    Dense,
    Factors,
    LinearMap,
    as_dense,
    is_moving,
    product,
    scalar,
    total,
)
from relaxcert.lipschitz.matrix import checked_matrix
from relaxcert.lipschitz.memory import Memory
from relaxcert.lipschitz.rules_normalisation import factors_of
from relaxcert.nn.shapes import Scale
from relaxcert.spec.ball import Norm

_MOST_ANCHORS = 4  # of one node: bounds the work for long linear chains
Maps = dict[int, LinearMap]
_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Folding:
    """The maps of a graph (float64, CPU, in eval mode, with shapes), node after node."""

    def __init__(self, graph: Graph, *, tight: bool) -> None:
        self.graph = graph
        self.tight = tight
        self.maps: list[Maps] = []
        shaped = all(node.shape is not None for node in graph.nodes)
        for place, node in enumerate(graph.body):
            found = self._through(node) if shaped and place > 0 else {}
            found[place] = IDENTITY
            # The farthest anchor, where the whole linear part begins, and the nearest ones.
            kept = sorted(found)
            kept = kept if len(kept) <= _MOST_ANCHORS else [kept[0], *kept[1 - _MOST_ANCHORS :]]
            self.maps.append({anchor: found[anchor] for anchor in kept})

    def smaller(
        self, place: int, norm: Norm, totals: list[float], known: float, memory: Memory
    ) -> float:
        """The smallest total of a node by its maps, at most ``known`` (from its own rule)."""
        node = self.graph.nodes[place]
        for anchor, found in self.maps[place].items():
            if anchor == place or not _is_gain(node, anchor):
                continue
            known = min(
                known, multiply_up(memory.map(found, norm, tight=self.tight), totals[anchor])
            )
        return known

    def _through(self, node: Node) -> Maps:
        if node.kind == "sum":
            left, right = (self.maps[place] for place in node.operands)
            found = {
                anchor: total(left[anchor], right[anchor], node.sign, self._ends(anchor, node))
                for anchor in left.keys() & right.keys()
            }
            return {anchor: value for anchor, value in found.items() if value is not None}
        if node.kind != "layer" or node.layer is None:
            return {}
        operand = node.operands[0]
        own = own_map(node.layer, self._shape(operand))
        if own is None:
            return {}
        found = {}
        for anchor, before in self.maps[operand].items():
            # A flattened point has other channels: from here on only matrices fit.
            whole = isinstance(before, Factors) and before.factors.numel() == 1
            if is_moving(node.layer) and not whole and self._shape(operand) != _shape(node):
                moved = as_dense(before, self._shape(anchor), _shape(node))
            else:
                moved = self._after(own, before, anchor, node)
            if moved is not None:
                found[anchor] = moved
        return found

    def _after(
        self, own: LinearMap, before: LinearMap, anchor: int, node: Node
    ) -> LinearMap | None:
        """own o before, where ``before`` may flatten points without a trace (it is one factor)."""
        ends, operand = self._ends(anchor, node), self._shape(node.operands[0])
        if isinstance(own, Factors) and own.factors.numel() > 1 and ends[0] != operand:
            # Its channels are those of the operand, not of the anchor.
            written = as_dense(own, operand, ends[1])
            return (
                None if written is None else product(written, before, (ends[0], operand, ends[1]))
            )
        return product(own, before, (ends[0], operand, ends[1]))

    def _shape(self, place: int) -> tuple[int, ...]:
        return _shape(self.graph.nodes[place])

    def _ends(self, anchor: int, node: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self._shape(anchor), _shape(node)


def own_map(layer: nn.Module, shape: tuple[int, ...]) -> LinearMap | None:
    """The linear part of a layer on points of this shape; None for other layers."""
    kind: Any = type(layer)
    if is_moving(layer):
        return IDENTITY
    if isinstance(layer, nn.Linear) and kind is nn.Linear:
        weight = checked_matrix(layer.weight, "weight of a Linear layer")
        return Dense(weight) if len(shape) == 1 else None
    if kind in _CONVOLUTIONS:
        return Convolution.of(layer, shape[1:])  # pyright: ignore[reportArgumentType]
    if kind in _BATCH_NORMS:
        factors = factors_of(layer)  # pyright: ignore[reportArgumentType]
        return Factors(factors, factors.abs() * 2.0**-50)
    if isinstance(layer, Scale):
        return scalar(layer.factor)
    return None


_LINEAR = (nn.Linear, *_CONVOLUTIONS, *_BATCH_NORMS)


def is_foldable(graph: Graph) -> bool:
    """Whether some map may span more than one layer, so that shapes are worth knowing."""

    def is_linear(place: int) -> bool:
        layer = graph.nodes[place].layer
        while layer is not None and is_moving(layer):
            place = graph.nodes[place].operands[0]
            layer = graph.nodes[place].layer
        return type(layer) in _LINEAR

    return any(
        node.kind == "sum" or (type(node.layer) in _LINEAR and is_linear(node.operands[0]))
        for node in graph.nodes[1:]
    )


def _shape(node: Node) -> tuple[int, ...]:
    return node.shape or ()


def _is_gain(node: Node, anchor: int) -> bool:
    """Whether a map says more than the node's own rule: it spans more than one layer."""
    return node.kind == "sum" or anchor not in node.operands
