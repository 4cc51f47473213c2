"""Min and Max of two values become MinMax, however a graph takes them apart and together."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from torch import nn

from relaxcert.interop import load_onnx
from relaxcert.nn.layers import MinMax
from relaxcert.nn.rearrange import Rearrange
from tests.interop.onnx_files import assert_same, model_of, points, write
from tests.interop.test_onnx_operators import kinds, node, numbers

INTS = {
    "zero": np.array([0]),
    "one": np.array([1]),
    "two": np.array([2]),
    "end": np.array([2**62]),
    "pairs": np.array([0, 4, 2]),
    "flat": np.array([0, -1]),
    "first": np.array(0),
    "second": np.array(1),
}
# Three ways to take neighbours apart ...
BY_SLICES = [node("Slice", "h zero end one two", "a"), node("Slice", "h one end one two", "b")]
BY_SPLIT = [node("Reshape", "h pairs", "p"), node("Split", "p", "a b", axis=2)]
BY_GATHER = [
    node("Reshape", "h pairs", "p"),
    node("Gather", "p first", "a", axis=2),
    node("Gather", "p second", "b", axis=2),
]
EXTREMES = [node("Min", "a b", "lo"), node("Max", "b a", "hi")]
# ... and to put them together again.
STACKED = [
    node("Unsqueeze", "lo two", "l"),
    node("Unsqueeze", "hi two", "h2"),
    node("Concat", "l h2", "c", axis=2),
    node("Reshape", "c flat", "z"),
]
JOINED = [node("Concat", "lo hi", "c", axis=2), node("Reshape", "c flat", "z")]
HALVES = [node("Split", "h", "a b", axis=1)]


def network_of(tmp_path, steps):
    weights = {"w": numbers(1, 5, 8), "v": numbers(2, 8, 3)}
    nodes = [node("MatMul", "x w", "h"), *steps, node("MatMul", "z v")]
    path = write(model_of(nodes, ["B", 5], weights | INTS), tmp_path)
    network = load_onnx(path)
    assert_same(network, path, points(3, 40, 5))
    return network


@pytest.mark.parametrize(
    ("apart", "together"),
    [(BY_SLICES, STACKED), (BY_SPLIT, JOINED), (BY_GATHER, STACKED)],
)
def test_neighbours_are_one_layer(tmp_path, apart, together):
    network = network_of(tmp_path, [*apart, *EXTREMES, *together])
    assert kinds(network) == [nn.Linear, MinMax, nn.Linear]


def test_halves_are_one_layer_between_two_movements(tmp_path):
    network = network_of(tmp_path, [*HALVES, *EXTREMES, node("Concat", "lo hi", "z", axis=1)])
    assert kinds(network) == [nn.Linear, Rearrange, MinMax, Rearrange, nn.Linear]


def test_channels_are_one_layer(tmp_path):
    nodes = [
        node("Slice", "x zero end one two", "a"),
        node("Slice", "x one end one two", "b"),
        *EXTREMES,
        node("Concat", "lo hi", "z", axis=1),
        node("Flatten", "z"),
    ]
    path = write(model_of(nodes, ["B", 4, 3, 3], INTS), tmp_path)
    network = load_onnx(path)
    assert_same(network, path, points(3, 10, 4, 3, 3))
    assert kinds(network) == [MinMax, Rearrange]


@pytest.mark.parametrize("op", ["Min", "Max"])
def test_one_of_the_two_alone(tmp_path, op):
    nodes = [node("Split", "x", "a b", axis=1), helper.make_node(op, ["a", "b"], ["y"])]
    path = write(model_of(nodes, ["B", 6]), tmp_path)
    network = load_onnx(path)
    assert_same(network, path, points(3, 40, 6))
    assert kinds(network) == [Rearrange, MinMax, Rearrange]


def test_values_of_different_layers(tmp_path):
    nodes = [
        node("MatMul", "x w", "a"),
        node("Relu", "x", "b"),
        *EXTREMES,
        node("Concat", "hi lo", "y", axis=1),
    ]
    path = write(model_of(nodes, ["B", 4], {"w": numbers(1, 4, 4)}), tmp_path)
    network = load_onnx(path)
    assert_same(network, path, points(3, 40, 4))
    # min and max share the layer, whatever the order of their operands.
    assert sum(type(layer) is MinMax for layer in network.layers) == 1


def test_a_value_with_itself(tmp_path):
    path = write(model_of([node("Max", "x x")], ["B", 4]), tmp_path)
    assert_same(load_onnx(path), path, points(3, 10, 4))
