"""From a parsed ONNX graph to a torch module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from relaxcert.errors import ModelFileError, UnsupportedOperator, suggestion
from relaxcert.interop.onnx_import.builder import Builder
from relaxcert.interop.onnx_import.module import module_of
from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.registry import handler_of, supported_operators
from relaxcert.interop.onnx_import.tensors import TensorReader
from relaxcert.interop.onnx_import.values import Activation, Value

_DTYPES: dict[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
}
_LARGEST_INPUT = 2**24


class Translation:
    """Reads one graph, node by node.

    Args:
        graph: the graph.
        version: the opset.
        source: the file, which errors name and beside which external data lie.
    """

    def __init__(self, graph: onnx.GraphProto, version: int, source: Path) -> None:
        self.graph = graph
        self.version = version
        self.source = source
        self.values: dict[str, Value] = {}
        self._reader = TensorReader(source)

    def run(self) -> tuple[nn.Module, tuple[int, ...]]:
        """The network, (batch, *shape) -> (batch, classes), and the shape of one input point.

        There are at least two classes.

        Raises:
            ModelFileError: something that is malformed or not supported; names the node.
        """
        if self.graph.sparse_initializer or self.graph.quantization_annotation:
            raise self._error("holds sparse or quantised weights, which are not supported")
        name, shape, dtype = self._input()
        build = Builder(shape, dtype)
        for tensor in self.graph.initializer:
            self._define(tensor.name, self._reader.read(tensor, repr(tensor.name)))
        self._define(name, Activation(0, shape))
        for place, proto in enumerate(self.graph.node):
            self._visit(proto, place, build)
        return module_of(build, self._output(build)), shape[1:]

    def _visit(self, proto: onnx.NodeProto, place: int, build: Builder) -> None:
        title = f"{self.source}: node {place} ({proto.op_type[:40]!r}{_named(proto)})"
        handler = handler_of(proto.op_type) if proto.domain in ("", "ai.onnx") else None
        if handler is None:
            domain = f" of domain {proto.domain[:40]!r}" if proto.domain else ""
            raise UnsupportedOperator(
                f"{title}: operator {proto.op_type[:40]!r}{domain} is not supported, only "
                f"{', '.join(supported_operators())}."
                f"{suggestion(proto.op_type[:40], supported_operators())}"
            )
        inputs = [self._value(name, title) if name else None for name in proto.input]
        node = Node(proto, title, self.version, inputs, self._reader)
        found = handler(node, build)
        results: Sequence[Value] = [found] if isinstance(found, Activation | np.ndarray) else found
        node.finish()
        for name, result in zip(proto.output, results, strict=False):
            self._define(name, result)

    def _value(self, name: str, title: str) -> Value:
        if name not in self.values:
            raise ModelFileError(
                f"{title} takes {name[:80]!r}, which nothing before it computes: the graph is not "
                "sorted, or damaged."
            )
        return self.values[name]

    def _define(self, name: str, value: Value) -> None:
        if not name or name in self.values:
            raise self._error(f"defines the value {name[:80]!r} twice or without a name")
        self.values[name] = value

    def _input(self) -> tuple[str, tuple[int, ...], torch.dtype]:
        """Name, shape for a batch of one, and type of the one input."""
        known = {tensor.name for tensor in self.graph.initializer}
        inputs = [value for value in self.graph.input if value.name not in known]
        if len(inputs) != 1:
            names = [value.name[:40] for value in inputs[:4]]
            raise self._error(f"has {len(inputs)} inputs {names}, expected one")
        kind = inputs[0].type.tensor_type
        dtype = _DTYPES.get(kind.elem_type)
        if dtype is None:
            raise self._error("takes something else than float32 or float64 numbers")
        dims = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
        if len(dims) < 2 or dims[0] not in (0, 1, -1):
            raise self._error(
                f"takes an input of shape {dims}, expected (batch, ...) with a free batch or a "
                "batch of 1"
            )
        shape = (1, *dims[1:])
        if min(shape) < 1 or math.prod(shape) > _LARGEST_INPUT:
            raise self._error(
                f"takes an input of shape {shape[1:]}: every size but the batch must be fixed, and "
                f"a point may have up to {_LARGEST_INPUT} numbers"
            )
        return inputs[0].name, shape, dtype

    def _output(self, build: Builder) -> int:
        """The step that computes the logits, (1, classes)."""
        outputs = [output.name for output in self.graph.output]
        if len(outputs) != 1:
            raise self._error(f"has {len(outputs)} outputs, expected one: the logits")
        value = self._value(outputs[0], f"{self.source}: the output")
        if not isinstance(value, Activation):
            raise self._error("has an output that does not depend on its input")
        proto = onnx.NodeProto(op_type="output")
        node = Node(proto, f"{self.source}: the output", self.version, [], self._reader)
        # (1, classes, 1, 1), as convolutions and pooling leave it.
        if value.shape[:1] == (1,) and math.prod(value.shape) == max(value.shape):
            value = build.move(node, value, lambda places: places.reshape(1, -1))
        if len(value.shape) != 2 or value.shape[1] < 2:
            raise node.error(
                f"has shape {value.shape}, expected (batch, classes) with at least 2 classes"
            )
        return build.step_of(node, value)

    def _error(self, what: str) -> ModelFileError:
        return ModelFileError(f"{self.source} {what}.")


def _named(proto: onnx.NodeProto) -> str:
    return f" named {proto.name[:80]!r}" if proto.name else ""
