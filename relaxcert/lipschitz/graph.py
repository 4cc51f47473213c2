"""A backbone as a graph: layers with rules, sums and concatenations, in order of computation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz.registry import Rule

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
        shape: shape of the result for one point, if the shape of the input is known.
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
        """Compute the node; each operand (batch, ...)."""
        if self.kind == "layer" and self.layer is not None:
            return self.layer(operands[0])
        if self.kind == "sum":
            return operands[0] + operands[1] if self.sign > 0 else operands[0] - operands[1]
        if self.kind == "concatenation":
            return torch.cat(list(operands), dim=self.dim)
        raise UnsupportedLayer(f"node {self.name} ({self.kind}) computes nothing.")


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

    def run(self, inputs: Tensor) -> Tensor:
        """Compute the output, (batch, ...) -> (batch, classes)."""
        values: list[Tensor] = [inputs]
        for node in self.nodes[1:]:
            values.append(node.run([values[place] for place in node.operands]))
        return values[-1]

    def with_shapes(self, input_shape: tuple[int, ...]) -> Graph:
        """The same graph with the shape of each node, found by running one point of zeros.

        Raises:
            UnsupportedLayer: the input does not fit, or a layer moves the batch dimension.
        """
        tensor = next(
            (t for node in self.nodes if node.layer for t in node.layer.parameters()), None
        )
        dtype = torch.float32 if tensor is None else tensor.dtype
        device = torch.device("cpu") if tensor is None else tensor.device
        # Two points, so that a layer which mixes or drops points is noticed.
        values: list[Tensor] = [torch.zeros(2, *input_shape, dtype=dtype, device=device)]
        for node in self.nodes[1:]:
            try:
                with torch.no_grad():
                    values.append(node.run([values[place] for place in node.operands]))
            except (RuntimeError, ValueError) as error:
                raise UnsupportedLayer(
                    f"backbone.{node.name} ({node.title}) cannot take the shape that reaches it "
                    f"from an input of shape {input_shape}: {error}"
                ) from error
            if values[-1].dim() < 2 or values[-1].shape[0] != 2:
                raise UnsupportedLayer(
                    f"backbone.{node.name} ({node.title}) turns a batch of 2 points into shape "
                    f"{tuple(values[-1].shape)}: the batch must stay in dimension 0."
                )
        shaped = tuple(
            replace(node, shape=tuple(value.shape[1:]))
            for node, value in zip(self.nodes, values, strict=True)
        )
        return Graph(shaped, None if self.last is None else shaped[-1])
