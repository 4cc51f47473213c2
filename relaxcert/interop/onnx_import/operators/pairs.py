"""Min and Max of two values: MinMax, so that a pair of them keeps its Lipschitz constant of 1.

A graph computes min(a, b) and max(a, b) by separate nodes; each alone would count sqrt(2) in l2.
Both are read as the two halves of one MinMax layer on the pairs (a_i, b_i), whatever way the graph
takes to slice them out and to put them together again.
"""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from relaxcert.interop.onnx_import.builder import Builder
from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.registry import operator
from relaxcert.interop.onnx_import.values import Activation, Value
from relaxcert.nn.layers import MinMax
from relaxcert.nn.shapes import Scale


@operator("Min", "Max")
def extreme(node: Node, build: Builder) -> Value:
    """min or max of two values, or of a value and 0."""
    if node.count == 1:
        return node.activation(0)
    if node.count != 2:
        raise node.error(f"({node.op}) compares {node.count} values, only two are supported")
    left, right = node.value(0), node.value(1)
    if isinstance(left, Activation) and isinstance(right, Activation):
        low, high = _sorted_pairs(node, build, left, right)
        return low if node.op == "Min" else high
    place = 0 if isinstance(left, Activation) else 1
    inputs, constant = node.activation(place), node.constant(1 - place)
    if (constant != 0).any() or constant.ndim > len(inputs.shape) or constant.size != 1:
        raise node.error(f"({node.op}) compares with a constant other than 0")
    if node.op == "Max":
        return build.layer(node, inputs, nn.ReLU())
    # min(x, 0) = -relu(-x)
    negated = build.layer(node, inputs, Scale(-1.0))
    return build.layer(node, build.layer(node, negated, nn.ReLU()), Scale(-1.0))


def _sorted_pairs(
    node: Node, build: Builder, left: Activation, right: Activation
) -> tuple[Activation, Activation]:
    """min(left, right), max(left, right)."""
    if left.shape != right.shape or left.shape[:1] != (1,):
        raise node.error(
            f"({node.op}) compares shapes {left.shape} and {right.shape}: only equal ones are "
            "supported"
        )
    # min and max do not care which is which, so both orders share one layer.
    if left.base > right.base:
        left, right = right, left
    if left.base != right.base:
        flat = [build.move(node, v, lambda p: p.reshape(1, -1)) for v in (left, right)]
        joined = build.concatenate(node, flat, 1)
        count = math.prod(left.shape)
        places = np.arange(count).reshape(left.shape)
        build.account(node, 2 * count)
        left = Activation(joined.base, left.shape, places)
        right = Activation(joined.base, left.shape, count + places)
    one, other = build.places_of(node, left), build.places_of(node, right)
    base = Activation(left.base, build.steps[left.base].shape)
    if _are_neighbours(one, other, base.shape):
        both = build.memo(("MinMax", base.base), lambda: build.layer(node, base, MinMax()))
        places = build.places_of(node, both)
        return (
            Activation(both.base, left.shape, places[:, 0::2]),
            Activation(both.base, left.shape, places[:, 1::2]),
        )
    first, second = (one, other) if int(one.flat[0]) <= int(other.flat[0]) else (other, one)
    pairs = np.stack((first.reshape(1, -1), second.reshape(1, -1)), axis=2).reshape(1, -1)
    build.account(node, pairs.size)
    gathered = Activation(base.base, pairs.shape, pairs)
    step = build.step_of(node, gathered)
    both = build.memo(
        ("MinMax", step),
        lambda: build.layer(node, Activation(step, gathered.shape), MinMax()),
    )
    places = np.arange(pairs.size).reshape(*left.shape, 2)
    return (
        Activation(both.base, left.shape, np.ascontiguousarray(places[..., 0])),
        Activation(both.base, left.shape, np.ascontiguousarray(places[..., 1])),
    )


def _are_neighbours(one: np.ndarray, other: np.ndarray, base: tuple[int, ...]) -> bool:
    """Whether they are x[:, 0::2] and x[:, 1::2] of the base, in either order."""
    if len(base) < 2 or base[0] != 1 or base[1] % 2:
        return False
    every = np.arange(math.prod(base)).reshape(base)
    even, odd = every[:, 0::2], every[:, 1::2]
    return any(
        np.array_equal(one, first) and np.array_equal(other, second)
        for first, second in ((even, odd), (odd, even))
    )
