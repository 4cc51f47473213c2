"""Small ONNX files for tests, written with onnx.helper, and what onnxruntime computes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

# Both sides compute in float32, in different orders of summation.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
_FLOATS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}


def model_of(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    dtype: type = np.float32,
    output: str = "y",
) -> onnx.ModelProto:
    """A model with input ``x`` and output ``y``."""
    kind = _FLOATS[np.dtype(dtype)]
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info(output, kind, None)],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset)]
    # Older than what onnx writes by default, so that every onnxruntime reads it.
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def write(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def by_onnxruntime(model: onnx.ModelProto | Path, inputs: np.ndarray) -> np.ndarray:
    """The output for each point on its own: a batch of one is what every file allows."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"x": point[None]})[0].reshape(1, -1) for point in inputs]
    return np.concatenate(rows)


def points(seed: int, count: int, *shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(dtype)


def assert_same(network: nn.Module, model: onnx.ModelProto | Path, inputs: np.ndarray) -> None:
    """The imported network computes what onnxruntime does, up to float32 rounding."""
    with torch.no_grad():
        found: Tensor = network(torch.from_numpy(inputs))
    np.testing.assert_allclose(found.numpy(), by_onnxruntime(model, inputs), **TOLERANCE)
