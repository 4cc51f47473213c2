"""Gemm and MatMul: nn.Linear."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from relaxcert.interop.onnx_import.builder import Builder
from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.registry import operator
from relaxcert.interop.onnx_import.values import Activation
from relaxcert.nn.shapes import Scale


@operator("Gemm")
def gemm(node: Node, build: Builder) -> Activation:
    """alpha x W + beta c, with x of shape (1, features)."""
    inputs = node.activation(0)
    matrix = node.weight(1, build.numpy_dtype)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    if node.attribute("transA", 0):
        raise node.error("(Gemm) transposes its input, which would mix points")
    if matrix.ndim != 2 or len(inputs.shape) != 2:
        raise node.error(f"(Gemm) gets shapes {inputs.shape} and {matrix.shape}, expected matrices")
    weight = matrix if node.attribute("transB", 0) else matrix.T
    bias = None
    if node.optional(2) is not None and beta != 0.0:
        bias = _bias_of(node, build, weight.shape[0])
    if alpha == beta == 1.0 or (alpha == 1.0 and bias is None):
        return apply_linear(node, build, inputs, weight, bias)
    # Kept apart, as a product of alpha and weight could round.
    scaled = apply_linear(node, build, inputs, weight, None)
    scaled = build.layer(node, scaled, Scale(alpha))
    if bias is None:
        return scaled
    exact = np.float64(beta) * bias.astype(np.float64)
    shift = exact.astype(build.numpy_dtype)
    if not np.array_equal(shift.astype(np.float64), exact):
        raise node.error(f"(Gemm) has beta={beta}, whose product with its bias would be rounded")
    return build.layer(node, scaled, build.normalisation(-shift, np.ones(())))


def _bias_of(node: Node, build: Builder, outputs: int) -> np.ndarray:
    given = node.weight(2, build.numpy_dtype)
    if given.size not in (1, outputs) or given.size != max(given.shape[-1:], default=1):
        raise node.error(f"(Gemm) has a bias of shape {given.shape} for {outputs} outputs")
    return np.broadcast_to(given.reshape(-1), (outputs,))


@operator("MatMul")
def matmul(node: Node, build: Builder) -> Activation:
    """X W on the last dimension; a bias may follow as an Add."""
    inputs = node.activation(0)
    matrix = node.weight(1, build.numpy_dtype)
    if matrix.ndim != 2 or len(inputs.shape) < 2:
        raise node.error(
            f"(MatMul) gets shapes {inputs.shape} and {matrix.shape}, expected a matrix of weights"
        )
    return apply_linear(node, build, inputs, matrix.T, None)


def apply_linear(
    node: Node,
    build: Builder,
    inputs: Activation,
    weight: np.ndarray | Tensor,
    bias: np.ndarray | None,
) -> Activation:
    """Apply nn.Linear; ``weight`` is (outputs, inputs)."""
    outputs, features = weight.shape
    if inputs.shape[-1] != features or outputs == 0:
        raise node.error(
            f"({node.op}) has weights for {features} inputs and {outputs} outputs, but its input "
            f"has shape {inputs.shape}"
        )
    layer = nn.Linear(features, outputs, bias=bias is not None, device="meta")
    layer.weight = build.parameter(weight)
    if bias is not None:
        layer.bias = build.parameter(bias)
    return build.layer(node, inputs, layer, (*inputs.shape[:-1], outputs))
