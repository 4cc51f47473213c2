"""Writing ONNX graphs: nodes and constants by name, in the order in which they are asked for.

The graphs are built directly with ``onnx.helper`` and not by ``torch.onnx.export``: which
operations round, in which precision and which fusions an engine may make of them is what the
guarantee of an exported network hangs on, so every node is chosen here; the result is the same for
every version of torch, and needs no package beyond onnx.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from relaxcert.errors import InvalidInput

OPSET = 17
IR_VERSION = 8
_LARGEST = 2**31 - 2**20  # bytes; protocol buffers end at 2 GiB
_KINDS = {
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.int64: TensorProto.INT64,
    torch.bool: TensorProto.BOOL,
}


class Writer:
    """Collects the nodes and constants of one graph; every method gives the name of its result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._bytes = 0

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node with one output."""
        return self.ops(kind, *inputs, count=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, count: int, **attributes: Any) -> list[str]:
        """One node with several outputs."""
        place = len(self._nodes)
        names = [f"{kind}_{place}" + (f"_{i}" if count > 1 else "") for i in range(count)]
        self._nodes.append(
            helper.make_node(kind, list(inputs), names, f"node_{place}", **attributes)
        )
        return names

    def constant(self, value: Any, dtype: torch.dtype | None = None) -> str:
        """A tensor, number or list as a constant; equal ones are kept once."""
        tensor = value.detach() if isinstance(value, Tensor) else torch.tensor(value)
        array = np.ascontiguousarray(tensor.to("cpu", dtype or tensor.dtype).numpy())
        key = (str(array.dtype), tuple(tensor.shape), array.tobytes())
        if key not in self._known:
            self._bytes += array.nbytes
            if self._bytes > _LARGEST:
                raise InvalidInput(
                    f"the network has more than {_LARGEST} bytes of constants, which an ONNX file "
                    "cannot hold."
                )
            self._known[key] = f"constant_{len(self._known)}"
            named = numpy_helper.from_array(array.reshape(tuple(tensor.shape)), self._known[key])
            self._constants[self._known[key]] = named
        return self._known[key]

    def double(self, value: float) -> str:
        """A float64 number."""
        return self.constant(torch.tensor(value, dtype=torch.float64))

    def whole(self, *values: int) -> str:
        """A list of whole numbers."""
        return self.constant(torch.tensor(values, dtype=torch.int64))

    def cast(self, name: str, dtype: torch.dtype) -> str:
        """Another type; from float64 to float32 this rounds to nearest."""
        return self.op("Cast", name, to=_KINDS[dtype])

    def reshape(self, name: str, *sizes: int) -> str:
        """Another shape for each point; the batch stays, even if it is empty."""
        return self.op("Reshape", name, self.whole(0, *sizes))

    def unsqueeze(self, name: str, *axes: int) -> str:
        """Dimensions of size 1."""
        return self.op("Unsqueeze", name, self.whole(*axes))

    def slice(self, name: str, axis: int, start: int, end: int, step: int = 1) -> str:
        """A range of one dimension."""
        rest = (self.whole(number) for number in (start, end, axis, step))
        return self.op("Slice", name, *rest)

    def fold(self, kind: str, names: Sequence[str]) -> str:
        """Combine several values by an operator of two, such as Min or And."""
        result = names[0]
        for name in names[1:]:
            result = self.op(kind, result, name)
        return result

    def reduce(self, kind: str, name: str, *axes: int, keep: bool = False) -> str:
        """ReduceMin, ReduceMax, ReduceSum, ReduceL2 over dimensions."""
        if kind == "ReduceSum":  # the first whose axes became an input
            return self.op(kind, name, self.whole(*axes), keepdims=int(keep))
        return self.op(kind, name, axes=list(axes), keepdims=int(keep))

    def named(self, name: str, output: str) -> str:
        """Give a value the name of an output."""
        self._nodes.append(helper.make_node("Identity", [name], [output], f"output_{output}"))
        return output

    def model(
        self,
        inputs: Sequence[tuple[str, torch.dtype, Sequence[int | str]]],
        outputs: Sequence[tuple[str, torch.dtype, Sequence[int | str]]],
        metadata: dict[str, str],
    ) -> onnx.ModelProto:
        """The finished model, checked by onnx itself."""
        graph = helper.make_graph(
            self._nodes,
            "relaxcert",
            [_described(*entry) for entry in inputs],
            [_described(*entry) for entry in outputs],
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        model.producer_name = "relaxcert"
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model


def _described(name: str, dtype: torch.dtype, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _KINDS[dtype], list(shape))
