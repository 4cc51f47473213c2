"""Constant, Identity, Cast, Dropout, Shape: what computes nothing."""

from __future__ import annotations

import numpy as np
import onnx

from relaxcert.interop.onnx_import.builder import Builder
from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.registry import operator
from relaxcert.interop.onnx_import.values import Activation, Value

_DTYPES = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.DOUBLE: np.float64,
    onnx.TensorProto.INT32: np.int32,
    onnx.TensorProto.INT64: np.int64,
    onnx.TensorProto.BOOL: np.bool_,
}


@operator("Constant")
def constant(node: Node, build: Builder) -> Value:
    """A tensor, a number or a list of numbers, as an attribute."""
    entry = node.proto("value")
    if entry is not None:
        return node.tensor(entry.t)
    for name, kind, dtype in (
        ("value_float", float, np.float32),
        ("value_int", int, np.int64),
        ("value_ints", list, np.int64),
    ):
        if node.has(name):
            return np.array(node.attribute(name, kind), dtype=dtype)
    entry = node.proto("value_floats")
    if entry is not None:
        return np.array(entry.floats, dtype=np.float32)
    raise node.error("(Constant) holds neither a tensor nor numbers")


@operator("Identity")
def identity(node: Node, build: Builder) -> Value:
    """x."""
    return node.value(0)


@operator("Dropout")
def dropout(node: Node, build: Builder) -> Value:
    """x: dropout does nothing outside training."""
    node.attribute("ratio", 0.5)
    node.attribute("seed", 0)
    node.optional(1)
    training = node.optional(2)
    if isinstance(training, Activation) or (training is not None and training.any()):
        raise node.error("(Dropout) is in training mode: export the network in eval mode")
    return node.value(0)


@operator("Cast")
def cast(node: Node, build: Builder) -> Value:
    """Weights of another type; an input must keep its own, as a cast of it would round."""
    to = node.attribute("to", int)
    node.attribute("saturate", 1)
    node.attribute("round_mode", "up")
    dtype = _DTYPES.get(to)
    if dtype is None:
        raise node.error(f"(Cast) converts to type number {to}, which is not supported")
    value = node.value(0)
    if isinstance(value, Activation):
        if np.dtype(dtype) != build.numpy_dtype:
            raise node.error(
                f"(Cast) converts what depends on the input from {build.numpy_dtype} to "
                f"{np.dtype(dtype)}, which rounds: only weights may be cast"
            )
        return value
    if np.dtype(dtype).kind == "i" and not np.isfinite(value).all():
        raise node.error("(Cast) converts NaN or infinity to whole numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        return value.astype(dtype)


@operator("Shape")
def shape(node: Node, build: Builder) -> Value:
    """The shape for a batch of one point."""
    value = node.value(0)
    start, end = node.attribute("start", 0), node.attribute("end", len(value.shape))
    return np.array(value.shape[start:end], dtype=np.int64)
