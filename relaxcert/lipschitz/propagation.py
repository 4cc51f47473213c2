"""From the bounds of single nodes to those of the maps from the input to them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from relaxcert.lipschitz.directed import add_up, multiply_up, up
from relaxcert.lipschitz.folding import Folding
from relaxcert.lipschitz.graph import Graph, Node
from relaxcert.lipschitz.memory import Memory
from relaxcert.lipschitz.registry import Bound, Rounding
from relaxcert.spec.ball import Norm


@dataclass(frozen=True, slots=True)
class NodeBound:
    """What is known of one node of the graph in one norm.

    Attributes:
        bound: of the node itself as a map of its operand (input, sum, concatenation: 1).
        rounding: of the node itself.
        total: upper bound of the constant of the map from the network's input to here.
    """

    bound: Bound
    rounding: Rounding
    total: float

    @property
    def passes(self) -> bool:
        """Whether errors pass through as they are: constant 1, no rounding."""
        return self.bound.value == 1.0 and self.rounding.operations == 0


def node_bounds(
    graph: Graph,
    norm: Norm,
    folding: Folding,
    on_layer: Callable[[str], object] | None = None,
    memory: Memory | None = None,
) -> tuple[NodeBound, ...]:
    """One entry a node of ``graph.body``, each with the smallest total that is known.

    ``on_layer`` is called with the name of each node when it is done; ``memory`` holds what is
    proved already.
    """
    known = Memory() if memory is None else memory
    body: list[NodeBound] = []
    for place, node in enumerate(graph.body):
        found = _node_bound(node, norm, body, known)
        totals = [before.total for before in body]
        smaller = folding.smaller(place, norm, totals, found.total, known)
        body.append(replace(found, total=smaller))
        if on_layer is not None:
            on_layer(node.name)
    return tuple(body)


def _node_bound(node: Node, norm: Norm, before: list[NodeBound], memory: Memory) -> NodeBound:
    """The bound of a node and of the whole map that ends in it.

    Layer: L L_a. Sum: ||a(x) + b(x) - a(y) - b(y)|| <= (L_a + L_b) ||x - y||. Concatenation: the
    norm of (L_a, L_b, ...), because the norm of a whole is that of the norms of its parts.
    """
    totals = [before[place].total for place in node.operands]
    if node.kind == "layer" and node.rule is not None:
        bound, rounding = memory.layer(node, norm)
        return NodeBound(bound, rounding, multiply_up(bound.value, totals[0]))
    if node.kind == "sum":
        # One operation, relative to its result; sums never underflow.
        summed = Bound(1.0, "sum of the bounds of both operands")
        return NodeBound(summed, Rounding(operations=1, output_gain=1.0), add_up(*totals))
    if node.kind == "concatenation":
        joined = Bound(1.0, f"{norm} norm of the bounds of all operands")
        return NodeBound(joined, Rounding(), joined_up(totals, norm))
    return NodeBound(Bound(1.0, "the input"), Rounding(), 1.0)


def joined_up(parts: list[float], norm: Norm) -> float:
    """Upper bound of the norm of a vector whose parts have these norms."""
    if norm == "linf":
        return max(parts)
    if norm == "l1":
        return add_up(*parts)
    largest = max(parts)
    if largest in (0.0, math.inf):
        return largest
    shares = [up(part / largest) for part in parts]
    squares = [max(multiply_up(share, share), 2.0**-1000) for share in shares]
    return multiply_up(largest, up(math.sqrt(add_up(*squares))))
