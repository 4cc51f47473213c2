"""The checks on an ONNX file with a property of the catalogue whose best score is the lowest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings

from tests.testing.test_checks import PLUGIN

onnx = pytest.importorskip("onnx")
pytest_plugins = ["pytester"]


def advisory_network(path) -> None:
    """5 inputs, 8 units, 5 scores: Gemm, Relu, Gemm, with the shape of a batch of one."""
    source = np.random.default_rng(0)
    arrays = {
        "w1": source.normal(size=(8, 5)), "b1": source.normal(size=8),
        "w2": source.normal(size=(5, 8)), "b2": source.normal(size=5),
    }  # fmt: skip
    tensors = [onnx.numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "w1", "b1"], ["z"], transB=1),
        onnx.helper.make_node("Relu", ["z"], ["h"]),
        onnx.helper.make_node("Gemm", ["h", "w2", "b2"], ["y"], transB=1),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes, "advisories",
        [onnx.helper.make_tensor_value_info("x", kind, [1, 5])],
        [onnx.helper.make_tensor_value_info("y", kind, [1, 5])],
        tensors,
    )  # fmt: skip
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)]), path)


@pytest.fixture
def checked(pytester, tmp_path):
    kept = settings.get_current_profile_name()
    advisory_network(tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32))

    def run(*more):
        return pytester.runpytest_inprocess(
            *PLUGIN, "--pyargs", "relaxcert.checks",
            "--relaxcert-model", str(tmp_path / "net.onnx"),
            "--relaxcert-data", str(tmp_path / "x.npy"), *more,
        )  # fmt: skip

    yield run
    settings.load_profile(kept)


def test_an_onnx_file_passes(checked):
    result = checked("--relaxcert-property", "acasxu/adjacent-advisories")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*net.onnx, 5 classes; 60 points of *", "13 checks hold"])


def test_an_onnx_file_needs_a_property(checked):
    result = checked()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --relaxcert-property is missing:*"])
