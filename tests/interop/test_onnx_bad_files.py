"""ONNX files that are damaged, hostile or not understood: one clear error each, no memory taken."""

from __future__ import annotations

import math
import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from relaxcert.errors import InvalidInput, ModelFileError, UnsupportedOperator
from relaxcert.interop import load_onnx
from tests.interop.onnx_files import assert_same, model_of, points, write
from tests.interop.test_onnx_operators import node, numbers

WEIGHTS = {"w": numbers(1, 5, 3)}
PLAIN = [node("MatMul", "x w")]


def plain() -> onnx.ModelProto:
    return model_of(PLAIN, ["B", 5], WEIGHTS)


def refused(tmp_path, model: onnx.ModelProto, message: str, kind=ModelFileError) -> None:
    with pytest.raises(kind, match=message) as found:
        load_onnx(write(model, tmp_path))
    assert str(tmp_path / "model.onnx") in str(found.value)


def test_files_that_are_none(tmp_path, monkeypatch):
    for path in (tmp_path / "missing.onnx", tmp_path):
        with pytest.raises(ModelFileError, match="no such file"):
            load_onnx(path)
    path = tmp_path / "bad.onnx"
    for data in (b"", b"hello world", b"\x3a\x05abc", os.urandom(1000), b"\xff" * 20):
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match=r"bad\.onnx"):
            load_onnx(path)
    monkeypatch.setattr("relaxcert.interop.onnx_import.reading._LIMIT", 20)
    with pytest.raises(ModelFileError, match="more than the 20 that are read"):
        load_onnx(write(plain(), tmp_path))


def test_best_is_one_of_two_words(tmp_path):
    with pytest.raises(InvalidInput, match="best='least'"):
        load_onnx(write(plain(), tmp_path), best="least")


@given(st.integers(0, 400))
def test_a_file_cut_off_anywhere_is_refused(size):
    data = plain().SerializeToString()
    if size < len(data):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cut.onnx"
            path.write_bytes(data[:size])
            with pytest.raises(ModelFileError, match=r"cut\.onnx"):
                load_onnx(path)


def test_many_tiny_messages_are_counted_before_they_are_parsed(tmp_path, monkeypatch):
    nodes = b"\x0a\x00" * 5000
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x3a" + bytes([len(nodes) & 127 | 128, len(nodes) >> 7]) + nodes)
    monkeypatch.setattr("relaxcert.interop.onnx_import.reading._FIELDS", 4000)
    with pytest.raises(ModelFileError, match="more than 4000 fields"):
        load_onnx(path)


def test_deep_nesting_is_refused(tmp_path):
    graph = helper.make_graph([], "g", [], [])
    for _ in range(8):
        inner = helper.make_node("If", [], [], then_branch=graph)
        graph = helper.make_graph([inner], "g", [], [])
    refused(tmp_path, helper.make_model(graph), "nested deeper than")
    refused(tmp_path, helper.make_model(helper.make_graph([inner], "g", [], [])), "nested deeper")


@pytest.mark.parametrize(
    ("op", "domain"), [("Softmax", ""), ("Loop", ""), ("Relu", "com.microsoft"), ("relu", "")]
)
def test_an_unknown_operator_is_named_with_its_node(tmp_path, op, domain):
    nodes = [helper.make_node(op, ["x"], ["y"], name="the culprit", domain=domain)]
    message = rf"node 0 \('{op}' named 'the culprit'\): operator '{op}'.* is not supported, only .*"
    refused(tmp_path, model_of(nodes, ["B", 5]), message + "MatMul", UnsupportedOperator)


def test_a_near_miss_is_suggested(tmp_path):
    refused(tmp_path, model_of([node("Matmul", "x w")], ["B", 5], WEIGHTS), "mean 'MatMul'")


def declared(dims: list[int], data: bytes, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    model = plain()
    tensor = TensorProto(name="w", data_type=kind, dims=dims, raw_data=data)
    model.graph.initializer[0].CopyFrom(tensor)
    return model


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([50000, 50000], "10000000000 bytes, but the tensors of a model may have"),
        ([20000, 20000], "1600000000 bytes, but holds 60"),
        ([2**32, 2**32], "bytes, but the tensors of a model may have"),  # 0 if it overflowed
        ([2**62, 4], "bytes, but the tensors of a model may have"),
        ([-5, -3], "impossible"),
        ([5, -1], "impossible"),
        ([1] * 1000, "impossible"),
        ([5, 2], "declares shape \\(5, 2\\), 40 bytes, but holds 60"),
        ([], "4 bytes, but holds 60"),
    ],
)
def test_declared_sizes_are_compared_with_the_data(tmp_path, dims, message):
    path = write(declared(dims, bytes(60)), tmp_path)
    tracemalloc.start()
    with pytest.raises(ModelFileError, match=message):
        load_onnx(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_typed_data_are_counted_too(tmp_path):
    model = plain()
    model.graph.initializer[0].CopyFrom(
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10**5, 10**4], float_data=[1.0])
    )
    refused(tmp_path, model, "1000000000 numbers, but holds 1")


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.STRING, TensorProto.INT4, 99])
def test_tensors_of_other_kinds_are_refused(tmp_path, kind):
    refused(tmp_path, declared([5, 3], bytes(60), kind), "tensor 'w' has type")


def external(model: onnx.ModelProto, **entries: object) -> onnx.ModelProto:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def test_external_data_are_read_from_the_folder(tmp_path):
    data = WEIGHTS["w"].tobytes()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(b"12345678" + data)
    entries = {"location": "weights/w.bin", "offset": 8, "length": 60}
    path = write(external(plain(), **entries), tmp_path)
    assert_same(load_onnx(path), path, points(1, 5, 5))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "missing.bin"}, "no such file beside the model"),
        ({"location": "short.bin"}, "needs 60 bytes, .* a file of 30 bytes"),
        ({"location": "long.bin", "offset": 50}, "needs 60 bytes, .* from 50 on"),
        ({"location": "long.bin", "length": 50}, "external data are 50 bytes"),
        ({"location": "long.bin", "offset": -4}, "offset of '-4'"),
        ({"location": "long.bin", "offset": 2**70}, "external data offset of"),
        ({"location": "long.bin", "offset": 2**62}, "needs 60 bytes"),
        ({"location": "../secret.bin"}, "outside the folder"),
        ({"location": "/etc/hostname"}, "outside the folder"),
        ({"location": "link.bin"}, "outside the folder"),
        ({"location": "a\0b"}, "outside the folder"),
        ({"location": ""}, "outside the folder"),
        ({}, "outside the folder"),
        ({"location": "."}, "no such file"),
        ({"location": "pipe"}, "no such file"),
    ],
)
def test_external_data_that_are_not_there_or_not_ours(tmp_path, entries, message):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(100))
    (folder / "short.bin").write_bytes(bytes(30))
    (folder / "long.bin").write_bytes(bytes(100))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    os.mkfifo(folder / "pipe")
    refused(folder, external(plain(), **entries), message)


def test_the_same_external_data_many_times_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("relaxcert.interop.onnx_import.tensors._LIMIT", 200)
    (tmp_path / "w.bin").write_bytes(WEIGHTS["w"].tobytes())
    model = external(plain(), location="w.bin")
    for index in range(4):
        model.graph.initializer.add().CopyFrom(model.graph.initializer[0])
        model.graph.initializer[-1].name = f"copy{index}"
    refused(tmp_path, model, "may have 200 bytes in all")


@pytest.mark.parametrize("opset", [1, 8, 24, 2**40])
def test_other_opsets_are_refused(tmp_path, opset):
    refused(tmp_path, model_of(PLAIN, ["B", 5], WEIGHTS, opset=opset), r"expected one from 9 to 23")


def changed(change) -> onnx.ModelProto:
    model = plain()
    change(model)
    return model


def _second_input(model):
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["B", 5]))


def _second_output(model):
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [5, 3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.ClearField("graph"), "no graph"),
        (lambda m: m.ClearField("opset_import"), "names no version"),
        (lambda m: m.opset_import.add(domain="ai.onnx", version=9), r"opset \[9, 17\]"),
        (_second_input, "has 2 inputs"),
        (lambda m: m.graph.ClearField("input"), "has 0 inputs"),
        (_second_output, "has 2 outputs"),
        (lambda m: m.graph.ClearField("output"), "has 0 outputs"),
        (lambda m: m.graph.node.append(m.graph.node[0]), "value 'y' twice"),
        (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "value 'w' twice"),
        (lambda m: setattr(m.graph.node[0], "domain", "x"), "of domain 'x'"),
        (lambda m: m.graph.node[0].input.append("w"), "more inputs than are understood"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "u"), "which nothing before it computes"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "w"), "computes with constants only"),
        (lambda m: m.graph.node[0].input.__setitem__(1, "x"), "only constants are supported"),
        (lambda m: m.graph.node[0].input.__setitem__(0, ""), "lacks its input 0"),
        (
            lambda m: m.graph.node[0].attribute.append(helper.make_attribute("fast", 1)),
            "attribute fast, which is not understood",
        ),
        (lambda m: m.graph.output[0].__setattr__("name", "w"), "does not depend on its input"),
    ],
)
def test_graphs_that_do_not_hold_together(tmp_path, change, message):
    refused(tmp_path, changed(change), message)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([5], r"expected \(batch, ...\)"),
        ([3, 5], "a free batch or a batch of 1"),
        (["B", "N"], "every size but the batch must be fixed"),
        (["B", 0], "every size but the batch must be fixed"),
        (["B", -5], "every size but the batch must be fixed"),
        (["B", 2**40, 2**40], "a point may have up to"),
    ],
)
def test_inputs_that_are_not_points(tmp_path, shape, message):
    refused(tmp_path, model_of(PLAIN, shape, WEIGHTS), message)


FLAT = np.array([0, -1])


@pytest.mark.parametrize(
    ("nodes", "shape", "constants", "message"),
    [
        ([node("MatMul", "x w")], ["B", 4], WEIGHTS, "weights for 5 inputs and 3 outputs"),
        ([node("Gemm", "x w", transA=1)], ["B", 5], WEIGHTS, "would mix points"),
        ([node("Mul", "x x")], ["B", 5], {}, "input 0 from the network's input|only constants"),
        ([node("Div", "c x")], ["B", 5], {"c": numbers(1, 5)}, "computes with constants only"),
        ([node("Div", "x c")], ["B", 5], {"c": np.zeros(5, np.float32)}, "divides by 0"),
        ([node("Add", "x c")], ["B", 1], {"c": numbers(1, 5)}, "would change that shape"),
        ([node("Add", "x c")], ["B", 5], {"c": numbers(1, 3, 5)}, "would change that shape"),
        ([node("Add", "x c")], ["B", 5], {"c": np.array([1.0] * 5)}, "of type float64"),
        ([node("Add", "x c")], ["B", 5], {"c": np.full(5, np.nan, np.float32)}, "NaN or infinity"),
        ([node("Transpose", "x", perm=[1, 0])], ["B", 5], {}, "expected"),
        ([node("Reshape", "x s")], ["B", 6], {"s": np.array([-1, 3])}, "batch must stay"),
        ([node("Reshape", "x s")], ["B", 6], {"s": np.array([0, 4])}, "cannot bring shape"),
        ([node("Reshape", "x s")], ["B", 6], {"s": np.array([-1, -1])}, "cannot bring shape"),
        ([node("Reshape", "x s")], ["B", 6], {"s": np.array([2**62, 4])}, "cannot bring shape"),
        ([node("Concat", "x x", axis=0)], ["B", 6], {}, "along axis 0"),
        ([node("Min", "x c")], ["B", 5], {"c": np.ones(1, np.float32)}, "other than 0"),
        ([node("Cast", "x", to=TensorProto.FLOAT16)], ["B", 5], {}, "type number 10"),
        ([node("Cast", "x", to=TensorProto.DOUBLE)], ["B", 5], {}, "only weights may be cast"),
        ([node("Gather", "x i", axis=1)], ["B", 5], {"i": np.array([5])}, "do not lie in"),
        ([node("LeakyRelu", "x", alpha=math.inf)], ["B", 5], {}, "alpha=inf"),
        ([node("LeakyRelu", "x", alpha=1)], ["B", 5], {}, "of another type"),
        ([node("Relu", "x")], ["B", 2, 3], {}, r"expected \(batch, classes\)"),
        ([node("Relu", "x")], ["B", 1], {}, "at least 2 classes"),
    ],
)
def test_what_cannot_be_understood_is_refused(tmp_path, nodes, shape, constants, message):
    refused(tmp_path, model_of(nodes, shape, constants), message)


IMAGE = ["B", 2, 6, 6]
KERNEL = {"w": numbers(1, 3, 2, 3, 3)}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (node("Conv", "x w", pads=[2**40] * 4), "has pads="),
        (node("Conv", "x w", pads=[2**19] * 4), "numbers for each point"),
        (node("Conv", "x w", strides=[0, 1]), "has strides="),
        (node("Conv", "x w", dilations=[2**19, 1]), "larger than its padded input"),
        (node("Conv", "x w", group=2), "in 2 groups for 2 channels"),
        (node("Conv", "x w", kernel_shape=[2, 2]), "contradict"),
        (node("Conv", "x w", auto_pad="SOME"), "auto_pad='SOME'"),
        (node("MaxPool", "x", kernel_shape=[2**40, 2]), "larger than its padded input"),
        (node("MaxPool", "x", kernel_shape=[2]), "expected an image and two numbers"),
        (node("MaxPool", "x"), "lacks the attribute kernel_shape"),
        (node("MaxPool", "x", kernel_shape=[2, 2], pads=[0, 0, 1, 1]), "pads its two sides"),
        (node("MaxPool", "x", kernel_shape=[2, 2], pads=[2] * 4), "more than half"),
        (node("AveragePool", "x", kernel_shape=[4, 4], strides=[3, 3], ceil_mode=1), "ceil_mode"),
        (node("DepthToSpace", "x", blocksize=2), "cannot spread"),
        (node("SpaceToDepth", "x", blocksize=4), "cannot cut"),
        (node("SpaceToDepth", "x", blocksize=0), "blocksize of 0"),
        (node("BatchNormalization", "x w w w w"), "has a scale of shape"),
        (node("BatchNormalization", "x w w w w", training_mode=1), "training mode"),
    ],
)
def test_images_that_do_not_fit(tmp_path, made, message):
    refused(tmp_path, model_of([made], IMAGE, KERNEL), message)


def test_growth_by_doubling_is_bounded(tmp_path):
    of_values: list[onnx.NodeProto] = [node("Relu", "x", "v0")]
    for i in range(40):
        of_values += [
            node("Abs", f"v{i}", f"w{i}"),
            node("Concat", f"v{i} w{i}", f"v{i + 1}", axis=1),
        ]
    of_places = [node("Concat", f"v{i} v{i}", f"v{i + 1}", axis=1) for i in range(40)]
    end = node("Relu", "v40")
    tracemalloc.start()
    refused(tmp_path, model_of([*of_values, end], ["B", 2**10]), "numbers for each point")
    refused(tmp_path, model_of([of_values[0], *of_places, end], ["B", 2**10]), "more numbers")
    assert tracemalloc.get_traced_memory()[1] < 2**29
    tracemalloc.stop()


def test_attributes_of_tensors_are_checked_as_initialisers_are(tmp_path):
    bomb = TensorProto(data_type=TensorProto.FLOAT, dims=[50000, 50000], raw_data=b"1234")
    nodes = [node("Constant", "", "w", value=bomb), node("MatMul", "x w")]
    refused(
        tmp_path, model_of(nodes, ["B", 5]), r"tensor of .*node 0 \('Constant'\) declares shape"
    )
