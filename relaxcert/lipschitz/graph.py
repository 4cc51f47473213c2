"""A backbone as a graph: layers with rules, sums and concatenations, in order of computation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput, RelaxcertError, UnsupportedLayer
from relaxcert.lipschitz.registry import Rule
from relaxcert.lipschitz.structure import settings_of

NodeKind = Literal["input", "layer", "sum", "concatenation"]


@dataclass(frozen=True, slots=True)
class Node:
    """One step of the computation.

    Attributes:
        name: path of the layer in the backbone, or the name of the operation.
        kind: what it does; ``sum`` is operands[0] + sign * operands[1].
        operands: places of the nodes that it takes, all before it.
        layer: for a layer: the module.
        rule: for a layer: its rule.
        sign: for a sum: 1 or -1.
        dim: for a concatenation: along which dimension (never the batch).
        shape: shape of the result for one point, if the shape of the input is known; ``rule`` is
            then that of this very shape (:meth:`Rule.at`).
    """

    name: str
    kind: NodeKind
    operands: tuple[int, ...] = ()
    layer: nn.Module | None = None
    rule: Rule[Any] | None = None
    sign: int = 1
    dim: int = 1
    shape: tuple[int, ...] | None = None

    @property
    def title(self) -> str:
        """The kind of layer, or of operation."""
        return self.kind if self.layer is None else type(self.layer).__name__

    def run(self, operands: Sequence[Tensor]) -> Tensor:
        """Compute the node; each operand (batch, ...).

        Raises:
            UnsupportedLayer: operands of a sum that differ in shape, or a concatenation of points.
        """
        if self.kind == "layer" and self.layer is not None:
            return self.layer(operands[0])
        if self.kind == "sum":
            return self._sum(operands[0], operands[1])
        if self.kind == "concatenation":
            return self._concatenation(operands)
        raise UnsupportedLayer(f"node {self.name} ({self.kind}) computes nothing.")

    def _sum(self, left: Tensor, right: Tensor) -> Tensor:
        # A number that is copied to many places moves all of them: L_a + L_b would be too low.
        if left.shape != right.shape:
            raise UnsupportedLayer(
                f"backbone.{self.name} adds shapes {tuple(left.shape)} and {tuple(right.shape)}: "
                "stretching one to the other copies numbers, and copies multiply the Lipschitz "
                "constant; only sums of equal shapes are bounded."
            )
        return left + right if self.sign > 0 else left - right

    def _concatenation(self, operands: Sequence[Tensor]) -> Tensor:
        if self.dim % operands[0].dim() == 0:
            raise UnsupportedLayer(
                f"backbone.{self.name} concatenates along dim={self.dim}, which is the batch here: "
                "points must not be mixed."
            )
        return torch.cat(list(operands), dim=self.dim)


@dataclass(frozen=True, slots=True)
class Graph:
    """All nodes; the first is the input, the last the output (no dead ends).

    ``last`` is the final nn.Linear layer if nothing but identities comes after it and nothing else
    uses what it uses: its rows give the constants of the logit differences. ``body`` are the nodes
    before it, ``features`` the place of the node that it reads.
    """

    nodes: tuple[Node, ...]
    last: Node | None

    @property
    def body(self) -> tuple[Node, ...]:
        """The nodes before the last Linear layer."""
        return self.nodes if self.last is None else self.nodes[:-1]

    @property
    def features(self) -> int:
        """The place of the node whose value the last Linear layer reads (or: the output)."""
        return len(self.nodes) - 1 if self.last is None else self.last.operands[0]

    @property
    def last_weight(self) -> Tensor:
        """The weight of the last Linear layer, (classes, features)."""
        if self.last is None or not isinstance(self.last.layer, nn.Linear):
            raise UnsupportedLayer("the backbone does not end in an nn.Linear layer.")
        return self.last.layer.weight

    @property
    def layers(self) -> tuple[Node, ...]:
        """The nodes that are layers, in order."""
        return tuple(node for node in self.nodes if node.kind == "layer")

    @property
    def needs_shape(self) -> bool:
        """Whether some layer's bound depends on the shape of its input."""
        return any(node.rule.needs_shape for node in self.nodes if node.rule is not None)

    @property
    def signature(self) -> tuple[str, ...]:
        """The structure as text: changes when a layer is replaced, reconfigured or rewired."""
        return tuple(
            f"{node.name}:{node.kind}{node.operands}{node.sign}{node.dim}:"
            + ("" if node.layer is None else f"{node.layer!r}:{settings_of(node.layer)}")
            for node in self.nodes
        )

    @property
    def last_use(self) -> dict[int, int]:
        """For each node that others use, the last one that does."""
        return {place: index for index, node in enumerate(self.nodes) for place in node.operands}

    def tightened(self) -> Graph:
        """The same graph with rules that take more time for smaller bounds."""
        nodes = tuple(
            node if node.rule is None else replace(node, rule=node.rule.tightened())
            for node in self.nodes
        )
        return Graph(nodes, None if self.last is None else nodes[-1])

    def run(self, inputs: Tensor) -> Tensor:
        """Compute the output, (batch, ...) -> (batch, classes)."""
        values = {0: inputs}
        last_use = self.last_use
        for index, node in enumerate(self.nodes):
            if index > 0:
                operands = [values[place] for place in node.operands]
                # Values that nothing needs any more are let go.
                for place in node.operands:
                    if last_use[place] == index:
                        values.pop(place, None)
                values[index] = node.run(operands)
        return values[len(self.nodes) - 1]

    def with_shapes(self, input_shape: tuple[int, ...]) -> Graph:
        """The same graph with shapes, and rules for these; found by running two points of zeros.

        Raises:
            UnsupportedLayer: a layer moves the batch dimension.
            InvalidInput: the input does not fit.
        """
        tensor = next((t for node in self.layers for t in _numbers_of(node)), None)
        dtype = torch.float32 if tensor is None else tensor.dtype
        device = torch.device("cpu") if tensor is None else tensor.device
        # Two points, so that a layer which mixes or drops points is noticed.
        values = [torch.zeros(2, *input_shape, dtype=dtype, device=device)]
        shaped = [replace(self.nodes[0], shape=input_shape)]
        for node in self.nodes[1:]:
            output = _zeros_through(node, [values[place] for place in node.operands], input_shape)
            shape = tuple(values[node.operands[0]].shape[1:])
            rule = None if node.rule is None else node.rule.at(shape)
            shaped.append(replace(node, rule=rule, shape=tuple(output.shape[1:])))
            values.append(output)
        return Graph(tuple(shaped), None if self.last is None else shaped[-1])


def _numbers_of(node: Node) -> list[Tensor]:
    if node.layer is None:
        return []
    tensors = [*node.layer.parameters(), *node.layer.buffers()]
    return [tensor for tensor in tensors if tensor.is_floating_point()]


def _zeros_through(node: Node, operands: list[Tensor], input_shape: tuple[int, ...]) -> Tensor:
    try:
        with torch.no_grad():
            output = node.run(operands)
    except RelaxcertError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise InvalidInput(
            f"inputs of shape {input_shape} do not fit the backbone: backbone.{node.name} "
            f"({node.title}) cannot take the shape {tuple(operands[0].shape[1:])} that reaches it: "
            f"{error}"
        ) from error
    if output.dim() < 2 or output.shape[0] != 2:
        raise UnsupportedLayer(
            f"backbone.{node.name} ({node.title}) turns a batch of 2 points into shape "
            f"{tuple(output.shape)}: the batch must stay in dimension 0."
        )
    return output
