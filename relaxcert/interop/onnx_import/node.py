"""One node of an ONNX graph: its inputs and attributes, checked as they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from relaxcert.errors import ModelFileError
from relaxcert.interop.onnx_import.tensors import TensorReader
from relaxcert.interop.onnx_import.values import Activation, Value

_Type = onnx.AttributeProto
_FIELDS: dict[type, tuple[int, str]] = {
    int: (_Type.INT, "i"),
    float: (_Type.FLOAT, "f"),
    str: (_Type.STRING, "s"),
    list: (_Type.INTS, "ints"),
}


class Node:
    """A node while it is read.

    Attributes:
        op: the operator.
        version: the opset.
        outputs: how many outputs are named; later ones than the first may be empty.
    """

    def __init__(
        self,
        proto: onnx.NodeProto,
        title: str,
        version: int,
        inputs: Sequence[Value | None],
        reader: TensorReader,
    ) -> None:
        self.op = proto.op_type
        self.version = version
        self.outputs = len(proto.output)
        self._title = title
        self._reader = reader
        self._inputs = tuple(inputs)
        self._attributes = {entry.name: entry for entry in proto.attribute}
        self._asked: set[str] = set()
        self._taken: set[int] = set()
        if len(self._attributes) != len(proto.attribute):
            raise self.error("names an attribute twice")

    def error(self, what: str) -> ModelFileError:
        """An error that names this node."""
        return ModelFileError(f"{self._title} {what}.")

    def attribute(self, name: str, default: Any) -> Any:
        """The value of an attribute, of the same type as ``default``: int, float, str or list.

        A type in place of the default says that it is required.
        """
        self._asked.add(name)
        required = isinstance(default, type)
        kind: type = default if required else type(default)
        entry = self._attributes.get(name)
        if entry is None:
            if required:
                raise self.error(f"lacks the attribute {name}")
            return default
        number, field = _FIELDS[kind]
        if entry.type != number:
            raise self.error(f"has an attribute {name} of another type than {kind.__name__}")
        value: Any = getattr(entry, field)
        if kind is str:
            return value.decode("utf-8", "replace")
        return list(value) if kind is list else value

    def proto(self, name: str) -> onnx.AttributeProto | None:
        """An attribute as it is in the file."""
        self._asked.add(name)
        return self._attributes.get(name)

    def tensor(self, proto: onnx.TensorProto) -> np.ndarray:
        """The numbers of a tensor that an attribute holds."""
        return self._reader.read(proto, f"of {self._title}")

    def has(self, name: str) -> bool:
        """Whether the file gives this attribute."""
        return name in self._attributes

    @property
    def count(self) -> int:
        """How many inputs there are; some may be left out."""
        return len(self._inputs)

    def value(self, place: int) -> Value:
        """An input that must be there."""
        found = self.optional(place)
        if found is None:
            raise self.error(f"lacks its input {place}")
        return found

    def optional(self, place: int) -> Value | None:
        """An input that may be left out."""
        self._taken.add(place)
        return self._inputs[place] if place < len(self._inputs) else None

    def activation(self, place: int) -> Activation:
        """An input that depends on the network's input."""
        found = self.value(place)
        if not isinstance(found, Activation):
            raise self.error(
                f"({self.op}) computes with constants only: fold constants first, for example with "
                "onnxruntime's offline optimisation"
            )
        return found

    def constant(self, place: int) -> np.ndarray:
        """An input that is the same for all inputs of the network."""
        found = self.value(place)
        if isinstance(found, Activation):
            raise self.error(
                f"({self.op}) takes input {place} from the network's input, but only constants are "
                "supported there: such a product or choice has no Lipschitz constant of its own"
            )
        return found

    def whole_numbers(self, place: int) -> list[int]:
        """An input that holds a few whole numbers, such as axes and sizes."""
        found = self.constant(place)
        if found.dtype.kind != "i" or found.size > 64:
            raise self.error(f"has an input {place} that is not a short list of whole numbers")
        return [int(number) for number in found.reshape(-1)]

    def weight(self, place: int, dtype: np.dtype[Any]) -> np.ndarray:
        """A constant of the network's own floating type, all finite."""
        found = self.constant(place)
        if found.dtype != dtype:
            raise self.error(f"has an input {place} of type {found.dtype}, expected {dtype}")
        if not np.isfinite(found).all():
            raise self.error(f"has NaN or infinity in its input {place}")
        return found

    def finish(self) -> None:
        """Raise unless every input and attribute was asked for."""
        unread = sorted(set(self._attributes) - self._asked)
        if unread:
            raise self.error(f"({self.op}) has the attribute {unread[0]}, which is not understood")
        given = {place for place, value in enumerate(self._inputs) if value is not None}
        if given - self._taken:
            raise self.error(f"({self.op}) has more inputs than are understood")
