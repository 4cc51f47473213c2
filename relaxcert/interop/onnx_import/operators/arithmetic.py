"""Add, Sub, Mul, Div: with a constant, or the sum and difference of two branches."""

from __future__ import annotations

import numpy as np
from torch import nn

from relaxcert.interop.onnx_import.builder import Builder
from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.operators.linear import apply_linear
from relaxcert.interop.onnx_import.registry import operator
from relaxcert.interop.onnx_import.values import Activation
from relaxcert.nn.elementwise import Diagonal
from relaxcert.nn.layers import InputNormalisation
from relaxcert.nn.shapes import Scale


@operator("Add")
def add(node: Node, build: Builder) -> Activation:
    """x + c, the bias of a MatMul, or x + y."""
    left, right = node.value(0), node.value(1)
    if isinstance(left, Activation) and isinstance(right, Activation):
        return build.sum(node, left, right, 1)
    place = 0 if isinstance(left, Activation) else 1
    inputs = node.activation(place)
    constant = constant_for(node, build, 1 - place, inputs)
    biased = _with_bias(node, build, inputs, constant)
    if biased is not None:
        return biased
    # x - (-c) is x + c, also in floating point.
    return build.layer(node, inputs, build.normalisation(-constant, np.ones(())))


def _with_bias(
    node: Node, build: Builder, inputs: Activation, constant: np.ndarray
) -> Activation | None:
    """The Linear layer just before with the constant as its bias, if it can be one.

    A new layer, as other nodes may use the one without the bias; whatever nothing uses is dropped.
    """
    step = build.steps[inputs.base]
    if inputs.places is not None or type(step.layer) is not nn.Linear:
        return None
    # One number for each output, the same wherever the layer is applied.
    if getattr(step.layer, "bias", None) is not None or any(n != 1 for n in constant.shape[:-1]):
        return None
    before = Activation(step.operands[0], build.steps[step.operands[0]].shape)
    bias = np.broadcast_to(constant.reshape(-1), (step.layer.out_features,))
    return apply_linear(node, build, before, step.layer.weight, bias)


@operator("Sub")
def subtract(node: Node, build: Builder) -> Activation:
    """x - c, c - x, or x - y."""
    left, right = node.value(0), node.value(1)
    if isinstance(left, Activation) and isinstance(right, Activation):
        return build.sum(node, left, right, -1)
    if isinstance(left, Activation):
        constant = constant_for(node, build, 1, left)
        return build.layer(node, left, build.normalisation(constant, np.ones(())))
    inputs = node.activation(1)
    constant = constant_for(node, build, 0, inputs)
    negated = build.layer(node, inputs, Scale(-1.0))
    return build.layer(node, negated, build.normalisation(-constant, np.ones(())))


@operator("Mul")
def multiply(node: Node, build: Builder) -> Activation:
    """c x."""
    place = 0 if isinstance(node.value(0), Activation) else 1
    inputs = node.activation(place)
    constant = constant_for(node, build, 1 - place, inputs)
    if constant.size == 1:
        return build.layer(node, inputs, Scale(float(constant.reshape(()))))
    return build.layer(node, inputs, Diagonal(build.tensor(constant)))


@operator("Div")
def divide(node: Node, build: Builder) -> Activation:
    """x / c."""
    inputs = node.activation(0)
    constant = constant_for(node, build, 1, inputs)
    if not (constant != 0).all():
        raise node.error("(Div) divides by 0")
    if (constant < 0).any():
        # The sign is exact, and what remains is a scale.
        inputs = build.layer(node, inputs, Diagonal(build.tensor(np.sign(constant))))
        constant = np.abs(constant)
    step = build.steps[inputs.base]
    shift = step.layer if type(step.layer) is InputNormalisation else None
    if inputs.places is None and shift is not None and bool((shift.std == 1).all()):
        # (x - mean) / std in one layer.
        inputs = Activation(step.operands[0], inputs.shape)
        return build.layer(node, inputs, build.normalisation(shift.mean, constant))
    return build.layer(node, inputs, build.normalisation(np.zeros(()), constant))


def constant_for(node: Node, build: Builder, place: int, inputs: Activation) -> np.ndarray:
    """A constant that is combined with each point alike, without the batch dimension."""
    constant = node.weight(place, build.numpy_dtype)
    point = inputs.shape[1:]
    if constant.ndim == len(inputs.shape) and constant.shape[0] == 1:
        constant = constant[0]
    try:
        fits = np.broadcast_shapes(constant.shape, point) == point
    except ValueError:
        fits = False
    if not fits or inputs.shape[:1] != (1,):
        raise node.error(
            f"({node.op}) combines an input of shape {inputs.shape} with a constant of shape "
            f"{constant.shape}, which would change that shape"
        )
    return constant
