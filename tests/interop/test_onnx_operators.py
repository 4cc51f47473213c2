"""Each operator of ONNX, read and compared with what onnxruntime computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from relaxcert.interop import load_onnx, read_onnx
from relaxcert.nn.elementwise import Abs, Diagonal
from relaxcert.nn.layers import InputNormalisation
from relaxcert.nn.rearrange import Rearrange
from relaxcert.nn.shapes import InvertibleDownsampling, Permute, Reshape, Scale
from tests.interop.onnx_files import assert_same, by_onnxruntime, model_of, points, write


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def node(op: str, inputs: str, output: str = "y", **attributes: object):
    names = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(op, names, output.split(), **attributes)


def kinds(network: nn.Module) -> list[type[nn.Module]]:
    return [type(layer) for layer in network]


def check(tmp_path, nodes, shape, constants=None, **settings):
    """Read the model, compare with onnxruntime, and give the network."""
    path = write(model_of(nodes, shape, constants, **settings), tmp_path)
    network = load_onnx(path)
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    assert_same(network, path, points(7, 6, *sizes))
    return network


VECTOR, ONE, ROW = numbers(1, 4), np.float32(0.7), numbers(2, 1, 4)


@pytest.mark.parametrize("constant", [VECTOR, ONE, ROW, -np.abs(VECTOR)])
@pytest.mark.parametrize("order", ["x c", "c x"])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_arithmetic_with_a_constant(tmp_path, op, order, constant):
    check(tmp_path, [node(op, order)], ["B", 4], {"c": constant})


@pytest.mark.parametrize("constant", [VECTOR, ONE, np.float32(-3.0), np.abs(VECTOR)])
def test_division_by_a_constant(tmp_path, constant):
    check(tmp_path, [node("Div", "x c")], ["B", 4], {"c": constant})


def test_a_shift_and_a_scale_become_one_normalisation(tmp_path):
    constants = {"m": VECTOR, "s": np.abs(VECTOR) + 1}
    nodes = [node("Sub", "x m", "a"), node("Div", "a s")]
    network = check(tmp_path, nodes, ["B", 4], constants)
    assert kinds(network) == [InputNormalisation]
    # The shift alone is still there for whoever else needs it.
    network = check(
        tmp_path, [*nodes[:1], node("Div", "a s", "b"), node("Add", "a b")], ["B", 4], constants
    )
    assert len(network.layers) == 2


GEMM = [
    {},
    {"transB": 1},
    {"alpha": 0.3, "transB": 1},
    {"alpha": 2.0, "beta": 0.5},
    {"beta": 0.0},
    {"alpha": 0.3, "beta": 2.0},
]


@pytest.mark.parametrize("bias", [None, (3,), (1, 3), (1,), ()])
@pytest.mark.parametrize("attributes", GEMM)
def test_gemm(tmp_path, attributes, bias):
    constants = {"w": numbers(3, 3, 4) if attributes.get("transB") else numbers(3, 4, 3)}
    if bias is not None:
        constants["c"] = numbers(4, *bias)
    names = "x w" if bias is None else "x w c"
    network = check(tmp_path, [node("Gemm", names, **attributes)], ["B", 4], constants)
    if not attributes:
        assert kinds(network) == [nn.Linear]


@pytest.mark.parametrize("order", ["a b", "b a"])
@pytest.mark.parametrize("bias", [(3,), (1, 3), (1,)])
def test_matmul_and_add_become_one_layer(tmp_path, bias, order):
    constants = {"w": numbers(3, 4, 3), "b": numbers(4, *bias)}
    nodes = [node("MatMul", "x w", "a"), node("Add", order)]
    assert kinds(check(tmp_path, nodes, ["B", 4], constants)) == [nn.Linear]


def test_a_product_that_others_use_keeps_no_bias(tmp_path):
    constants = {"w": numbers(3, 4, 3), "b": numbers(4, 3)}
    shared = [node("MatMul", "x w", "a"), node("Identity", "a", "i")]
    nodes = [*shared, node("Add", "i b", "c"), node("Relu", "a", "d"), node("Add", "c d")]
    check(tmp_path, nodes, ["B", 4], constants)


def test_matmul_on_the_last_dimension(tmp_path):
    constants = {"w": numbers(3, 4, 3), "b": numbers(4, 5, 3)}
    nodes = [node("MatMul", "x w", "a"), node("Add", "a b", "c"), node("Flatten", "c")]
    network = check(tmp_path, nodes, ["B", 5, 4], constants)
    assert kinds(network) == [nn.Linear, InputNormalisation, nn.Flatten]


@pytest.mark.parametrize(
    ("op", "attributes", "kind"),
    [
        ("Relu", {}, nn.ReLU),
        ("LeakyRelu", {"alpha": 0.3}, nn.LeakyReLU),
        ("LeakyRelu", {}, nn.LeakyReLU),
        ("Abs", {}, Abs),
        ("Neg", {}, Scale),
    ],
)
def test_activations(tmp_path, op, attributes, kind):
    assert kinds(check(tmp_path, [node(op, "x", **attributes)], ["B", 4])) == [kind]


@pytest.mark.parametrize("op", ["Min", "Max"])
def test_extremes_with_zero(tmp_path, op):
    check(tmp_path, [node(op, "x z")], ["B", 4], {"z": np.float32(0)})
    check(tmp_path, [node(op, "z x")], ["B", 4], {"z": np.zeros((1, 1), np.float32)})


CONVOLUTIONS = [
    ({}, (3, 2, 3, 3)),
    ({"pads": [1, 1, 1, 1], "strides": [2, 2]}, (3, 2, 3, 3)),
    ({"pads": [1, 0, 1, 0], "strides": [2, 1]}, (3, 2, 3, 2)),
    ({"dilations": [2, 1], "kernel_shape": [2, 3]}, (3, 2, 2, 3)),
    ({"group": 2}, (4, 1, 3, 3)),
    ({"pads": [0, 1, 2, 0]}, (3, 2, 3, 3)),
    ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (3, 2, 3, 3)),
    ({"auto_pad": "SAME_LOWER", "strides": [2, 1]}, (3, 2, 2, 4)),
    ({"auto_pad": "VALID"}, (3, 2, 3, 3)),
]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("attributes", "shape"), CONVOLUTIONS)
def test_convolutions(tmp_path, attributes, shape, bias):
    constants = {"w": numbers(5, *shape)} | ({"b": numbers(6, shape[0])} if bias else {})
    nodes = [node("Conv", "x w b" if bias else "x w", "a", **attributes), node("Flatten", "a")]
    network = check(tmp_path, nodes, ["B", 2, 6, 5], constants)
    assert nn.Conv2d in kinds(network)


def test_convolutions_in_one_dimension(tmp_path):
    nodes = [node("Conv", "x w", "a", pads=[1, 0], strides=[2]), node("Flatten", "a")]
    check(tmp_path, nodes, ["B", 2, 8], {"w": numbers(5, 3, 2, 3)})


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 2]},
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
        {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER", "strides": [2, 1]},
    ],
)
def test_pooling(tmp_path, op, attributes):
    nodes = [node(op, "x", "a", **attributes), node("Flatten", "a")]
    check(tmp_path, nodes, ["B", 2, 6, 6])


def test_pooling_with_settings_of_its_own(tmp_path):
    for attributes in ({"count_include_pad": 1}, {"count_include_pad": 0}):
        pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes = [node("AveragePool", "x", "a", **pads, **attributes), node("Flatten", "a")]
        check(tmp_path, nodes, ["B", 2, 6, 6])
    nodes = [node("MaxPool", "x", "a", kernel_shape=[2, 2], dilations=[2, 2]), node("Flatten", "a")]
    check(tmp_path, nodes, ["B", 2, 6, 6])
    nodes = [node("GlobalAveragePool", "x", "a"), node("Flatten", "a")]
    assert kinds(check(tmp_path, nodes, ["B", 2, 6, 6])) == [nn.AdaptiveAvgPool2d, nn.Flatten]


@pytest.mark.parametrize(("shape", "opset"), [((4,), 9), ((4, 3, 3), 14), ((4, 3), 15)])
def test_batch_normalisation(tmp_path, shape, opset):
    constants = {"s": numbers(1, 4), "b": numbers(2, 4), "m": numbers(3, 4)}
    constants["v"] = np.abs(numbers(4, 4)) + 0.1
    nodes = [node("BatchNormalization", "x s b m v", "a", epsilon=0.02), node("Flatten", "a")]
    network = check(tmp_path, nodes, ["B", *shape], constants, opset=opset)
    assert not network[0].training


def test_shapes(tmp_path):
    image = ["B", 4, 6, 2]
    flat = node("Flatten", "a")
    for first, layers in (
        (node("Reshape", "x s", "a"), [nn.Flatten]),
        (node("Transpose", "x", "a", perm=[0, 2, 3, 1]), [Permute, nn.Flatten]),
        (node("SpaceToDepth", "x", "a", blocksize=2), [InvertibleDownsampling, nn.Flatten]),
        (node("DepthToSpace", "x", "a", blocksize=2), None),
        (node("DepthToSpace", "x", "a", blocksize=2, mode="CRD"), None),
        (node("Unsqueeze", "x one", "a"), [nn.Flatten]),
    ):
        constants = {"s": np.array([0, -1, 3]), "one": np.array([1])}
        relu = node("Relu", "a", "r")
        alone = check(tmp_path, [first, relu, node("Flatten", "r")], image, constants)
        network = check(tmp_path, [first, flat], image, constants)
        # Movements in a row become one layer.
        assert len(network) == 1
        assert kinds(network)[0] is (nn.Flatten if layers == [nn.Flatten] else Rearrange)
        alone = load_onnx(
            write(model_of([first, relu, node("Flatten", "r")], image, constants), tmp_path)
        )
        if layers is not None and layers != [nn.Flatten]:
            assert kinds(alone) == [layers[0], nn.ReLU, nn.Flatten]


@pytest.mark.parametrize("shape", [[1, 1, 1, 5], ["B", 1, 5], ["B", 5, 1, 1]])
def test_flat_points_are_taken_where_they_can_mean_one_thing_only(tmp_path, shape):
    nodes = [node("Flatten", "x", "a"), node("MatMul", "a w")]
    path = write(model_of(nodes, shape, {"w": numbers(1, 5, 3)}), tmp_path)
    found = read_onnx(path)
    assert found.input_shape == tuple(shape[1:])
    assert type(found.network[0]) is Reshape
    inputs = torch.from_numpy(points(3, 4, *shape[1:]))
    assert torch.equal(found.network(inputs.flatten(1)), found.network(inputs))


def test_squeezing_and_sizes_by_attribute_and_by_input(tmp_path):
    relu = node("Relu", "a", "r")
    old = [node("Squeeze", "x", "a", axes=[2]), relu, node("Unsqueeze", "r", "u", axes=[1, -1])]
    check(tmp_path, [*old, node("Flatten", "u")], ["B", 4, 1], opset=11)
    new = [node("Squeeze", "x two", "a"), relu, node("Unsqueeze", "r ends", "u")]
    constants = {"two": np.array([2]), "ends": np.array([1, -1])}
    check(tmp_path, [*new, node("Flatten", "u")], ["B", 4, 1], constants, opset=13)


def test_a_flatten_that_asks_for_the_batch_size(tmp_path):
    """x.view(x.size(0), -1) as torch used to export it."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n", axis=0),
        node("Unsqueeze", "n axis", "m"),
        node("Concat", "m rest", "t", axis=0),
        node("Reshape", "x t", "y"),
    ]
    constants = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])}
    assert kinds(check(tmp_path, nodes, ["B", 2, 3], constants)) == [nn.Flatten]


@pytest.mark.parametrize("opset", [9, 13, 18, 23])
def test_split(tmp_path, opset):
    settings = {"num_outputs": 2} if opset >= 18 else {}
    parts = node("Split", "x", "a b", axis=1, **settings)
    check(tmp_path, [parts, node("Sub", "a b")], ["B", 6], opset=opset)
    if opset < 13:
        parts = node("Split", "x", "a b c", axis=-1, split=[1, 3, 2])
    else:
        parts = node("Split", "x sizes", "a b c", axis=-1)
    constants = {"sizes": np.array([1, 3, 2])} if opset >= 13 else {}
    network = check(
        tmp_path, [parts, node("Concat", "c a b", axis=1)], ["B", 6], constants, opset=opset
    )
    assert kinds(network) == [Rearrange]


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [3], [1], [1]),
        ([0], [2**40], [1], [2]),
        ([-1], [-(2**40)], [1], [-1]),
        ([5], [0], [1], [-2]),
        ([0, 1], [1, -1], [0, 1], [1, 1]),
    ],
)
def test_slice(tmp_path, starts, ends, axes, steps):
    names = ("starts", "ends", "axes", "steps")
    values = dict(zip(names, map(np.array, (starts, ends, axes, steps)), strict=True))
    check(tmp_path, [node("Slice", "x starts ends axes steps")], ["B", 6], values)
    if set(steps) == {1}:
        settings = {"starts": starts, "ends": ends, "axes": axes}
        check(tmp_path, [node("Slice", "x", **settings)], ["B", 6], opset=9)


def test_gather(tmp_path):
    check(tmp_path, [node("Gather", "x i", axis=1)], ["B", 4], {"i": np.array([3, -3, 3])})


@pytest.mark.parametrize("how", ["value", "value_floats", "value_float"])
def test_constants_casts_and_identities(tmp_path, how):
    array = numbers(3, 4)
    value = {
        "value": numpy_helper.from_array(array),
        "value_floats": array.tolist(),
        "value_float": 0.25,
    }[how]
    nodes = [
        node("Constant", "", "c", **{how: value}),
        node("Cast", "c", "d", to=TensorProto.DOUBLE),
        node("Cast", "d", "e", to=TensorProto.FLOAT),
        node("Identity", "e", "f"),
        node("Dropout", "x", "g"),
        node("Cast", "g", "h", to=TensorProto.FLOAT),
        node("Mul", "h f"),
    ]
    check(tmp_path, nodes, ["B", 4])


def test_float64_networks(tmp_path):
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a")]
    model = model_of(nodes, ["B", 4], {"w": numbers(3, 4, 3).astype(np.float64)}, dtype=np.float64)
    network = load_onnx(write(model, tmp_path))
    inputs = points(3, 5, 4, dtype=np.float64)
    assert network[0].weight.dtype == torch.float64
    found = network(torch.from_numpy(inputs)).detach().numpy()
    np.testing.assert_allclose(found, by_onnxruntime(model, inputs), rtol=1e-13)


def test_the_smallest_score_becomes_the_largest_logit_exactly(tmp_path):
    linear = [node("Gemm", "x w b")]
    branches = [node("Gemm", "x w b", "a"), node("Relu", "a", "r"), node("Add", "a r")]
    for nodes in (linear, branches):
        constants = {"w": numbers(3, 4, 3), "b": numbers(4, 3)}
        path = write(model_of(nodes, ["B", 4], constants), tmp_path)
        inputs = torch.from_numpy(points(3, 20, 4))
        assert torch.equal(load_onnx(path, best="min")(inputs), -load_onnx(path)(inputs))
    assert kinds(load_onnx(write(model_of(linear, ["B", 4], constants), tmp_path), best="min")) == [
        nn.Linear
    ]


def test_the_layers_for_single_numbers(tmp_path):
    network = check(tmp_path, [node("Mul", "x c")], ["B", 4], {"c": VECTOR})
    assert kinds(network) == [Diagonal]
    network = check(tmp_path, [node("Mul", "x c")], ["B", 4], {"c": ONE})
    assert kinds(network) == [Scale]
