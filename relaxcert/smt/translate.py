"""From a backbone to the exact network, layer by layer, over the traced graph.

Each kind of layer has an encoder: affine maps, and gates (stages of units). Moving layers are run
on the numbers of their places, so that they are exact by construction. Layers whose function is
not piecewise linear have no exact encoding over the rationals and are refused.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput, InvalidWeights, UnsupportedLayer
from relaxcert.lipschitz.graph import Graph, Node
from relaxcert.lipschitz.materialised import materialised
from relaxcert.lipschitz.tracing import trace
from relaxcert.smt.affine import Affine, stacked
from relaxcert.smt.deviation import sizes_up
from relaxcert.smt.encoders import (
    Gate,
    Nearly,
    Shape,
    Step,
    diagonal,
    encoder_for,
    refuse_smooth,
)
from relaxcert.smt.network import Doubt, ExactNetwork, Stage
from relaxcert.smt.size import check_size


def exact_network(backbone: nn.Module, input_shape: Sequence[int]) -> ExactNetwork:
    """Translate a backbone, (batch, *input_shape) -> (batch, classes), in eval mode.

    Raises:
        UnsupportedLayer: a layer without an exact encoding (smooth activations among them).
        InvalidWeights: NaN or infinite weights.
        NetworkTooLarge: more numbers than exact arithmetic can handle here; says what would fit.
    """
    shape = tuple(int(size) for size in input_shape)
    for path, module in backbone.named_modules():
        refuse_smooth(module, path)
    for name, tensor in (*backbone.named_parameters(), *backbone.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InvalidWeights(f"{name} holds NaN or infinite values: nothing can be encoded.")
    # The numbers that a parametrisation computes now, as certify takes them.
    on_cpu = copy.deepcopy(materialised(backbone)).to("cpu", torch.float64).eval()
    graph = trace(on_cpu).with_shapes(shape)
    check_size(graph)
    return _Builder(graph).build()


class _Builder:
    """Follows the graph; every value is an affine function of the present state."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.stages: list[Stage] = []
        self.values: dict[int, Affine] = {}
        self.last_use = {
            operand: place for place, node in enumerate(graph.nodes) for operand in node.operands
        }

    def build(self) -> ExactNetwork:
        nodes = self.graph.nodes
        inputs = int(np.prod(_shape(nodes[0]), dtype=np.int64))
        self.values[0] = Affine.identity(inputs)
        for place, node in enumerate(nodes[1:], 1):
            self._compute(place, node)
            for operand in node.operands:
                if self.last_use[operand] == place:
                    self.values.pop(operand, None)
        output = self.values[len(nodes) - 1]
        if len(_shape(nodes[-1])) != 1 or output.rows < 2:
            raise InvalidInput(
                f"the backbone returns shape {_shape(nodes[-1])} for one point, expected (classes,)"
                " with at least 2 classes: end it with nn.Flatten() and nn.Linear."
            )
        return ExactNetwork(inputs, tuple(self.stages), output)

    def _compute(self, place: int, node: Node) -> None:
        operands = [self.values[operand] for operand in node.operands]
        shapes = [_shape(self.graph.nodes[operand]) for operand in node.operands]
        if node.kind == "sum":
            if shapes[0] != shapes[1]:
                raise UnsupportedLayer(
                    f"backbone.{node.name} adds shapes {shapes[0]} and {shapes[1]}: only sums of "
                    "equal shapes are encoded."
                )
            self.values[place] = operands[0] + operands[1].scaled(node.sign)
        elif node.kind == "concatenation":
            self.values[place] = stacked(operands).take(_concatenated(shapes, node.dim))
        elif node.layer is not None:
            self.values[place] = operands[0]
            for step in encoder_for(node.layer, node.name)(node.layer, shapes[0]):
                self._apply(place, step)
        else:
            raise UnsupportedLayer(f"backbone.{node.name} ({node.kind}) has no exact encoding.")

    def _apply(self, place: int, step: Step) -> None:
        match step:
            case Affine():
                self.values[place] = step @ self.values[place]
            case Gate(pre, skip, gain):
                value = self.values[place]
                self._close_stage(place, pre @ value, skip @ value, gain)
            case Nearly():
                self._close_nearly(place, step)

    def _close_nearly(self, place: int, step: Nearly) -> None:
        """A stage without units, whose map is known nearly.

        As the true map is factor * (v - centre) + offset, it is off by at most
        doubt |v - centre|, entry by entry; v - centre is an affine function of the state.
        """
        value = self.values[place]
        ones = [Fraction(1)] * value.rows
        moved = diagonal(ones, [-centre for centre in step.centre]) @ value
        skip = diagonal(step.factors, step.offset) @ moved
        matrix, offset = sizes_up(moved)
        factors = np.array([float(value) for value in step.doubt]) * (1 + 2.0**-20)
        doubt = Doubt(factors[:, None] * matrix, factors * offset)
        none = Affine.zero(0, value.columns)
        self._close_stage(place, none, skip, Affine.zero(skip.rows, 0), doubt)

    def _close_stage(
        self, place: int, pre: Affine, passed: Affine, gain: Affine, doubt: Doubt | None = None
    ) -> None:
        """Make ``passed + gain(units)``, and every other value still needed, the next state."""
        self.values.pop(place)
        needed = [p for p in sorted(self.values) if self.last_use.get(p, -1) > place]
        kept = [passed, *(self.values[p] for p in needed)]
        skip = stacked(kept)
        rest = skip.rows - passed.rows
        if rest:
            gain = stacked([gain, Affine.zero(rest, gain.columns)])
            doubt = None if doubt is None else doubt.padded(rest)
        self.stages.append(Stage(pre.reduced(), skip.reduced(), gain, doubt))
        start = 0
        self.values = {}
        for p, part in zip([place, *needed], kept, strict=True):
            places = range(start, start + part.rows)
            self.values[p] = Affine.selection(places, skip.rows)
            start += part.rows


def _shape(node: Node) -> Shape:
    if node.shape is None:
        raise InvalidInput(f"the shape at backbone.{node.name} is unknown.")
    return node.shape


def _concatenated(shapes: Sequence[Shape], dim: int) -> list[int]:
    """Where each number of the concatenation stands in the flat values one after another."""
    start, parts = 0, list[Tensor]()
    for shape in shapes:
        count = int(np.prod(shape, dtype=np.int64))
        parts.append(torch.arange(start, start + count).reshape(1, *shape))
        start += count
    return cast("list[Any]", torch.cat(parts, dim=dim).flatten().tolist())
