"""Relu, LeakyRelu, Abs, and the other functions of one number that have a rule."""

from __future__ import annotations

import math

from torch import nn

from relaxcert.interop.onnx_import.builder import Builder
from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.registry import operator
from relaxcert.interop.onnx_import.values import Activation
from relaxcert.nn.elementwise import Abs
from relaxcert.nn.shapes import Scale


@operator("Relu")
def relu(node: Node, build: Builder) -> Activation:
    """max(x, 0)."""
    return build.layer(node, node.activation(0), nn.ReLU())


@operator("LeakyRelu")
def leaky_relu(node: Node, build: Builder) -> Activation:
    """max(x, 0) + alpha min(x, 0)."""
    alpha = node.attribute("alpha", 0.009999999776482582)  # 0.01 as a float32
    if not math.isfinite(alpha):
        raise node.error(f"(LeakyRelu) has alpha={alpha}")
    return build.layer(node, node.activation(0), nn.LeakyReLU(alpha))


@operator("Abs")
def absolute(node: Node, build: Builder) -> Activation:
    """|x|."""
    return build.layer(node, node.activation(0), Abs())


@operator("Neg")
def negate(node: Node, build: Builder) -> Activation:
    """-x."""
    return build.layer(node, node.activation(0), Scale(-1.0))
