"""From ONNX tensors to arrays; what a tensor declares is compared with what there is first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from relaxcert.errors import ModelFileError

_LIMIT = 2**32  # bytes of all tensors of a model together
_RANK = 16
_Kind = onnx.TensorProto
# Stored in raw_data as this (little-endian), or else in the field of that name.
_KINDS: dict[int, tuple[str, str]] = {
    _Kind.FLOAT: ("<f4", "float_data"),
    _Kind.DOUBLE: ("<f8", "double_data"),
    _Kind.INT32: ("<i4", "int32_data"),
    _Kind.INT64: ("<i8", "int64_data"),
    _Kind.BOOL: ("?", "int32_data"),
}


class TensorReader:
    """Reads the tensors of one model.

    Args:
        source: the model's file; external data must lie in its folder.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self._taken = 0

    def read(self, tensor: onnx.TensorProto, where: str) -> np.ndarray:
        """The numbers of a tensor.

        Raises:
            ModelFileError: kind, sizes and data do not fit each other, or external data are
                missing, too short, or outside the folder; ``where`` names the tensor.
        """
        if tensor.data_type not in _KINDS:
            raise self._error(
                where,
                f"has type {_name_of(tensor.data_type)}, expected float, double, int32, int64 or "
                "bool: convert the model to float32",
            )
        kind, field = _KINDS[tensor.data_type]
        shape = tuple(tensor.dims)
        if len(shape) > _RANK or any(size < 0 for size in shape):
            raise self._error(where, f"has shape {shape[: _RANK + 1]}, which is impossible")
        # Python's numbers do not overflow.
        count = math.prod(shape)
        needed = count * np.dtype(kind).itemsize
        # An external tensor may be named many times, so the sum is bounded and not only each one.
        if self._taken + needed > _LIMIT:
            raise self._error(
                where,
                f"declares shape {shape}, {needed} bytes, but the tensors of a model may have "
                f"{_LIMIT} bytes in all",
            )
        values = self._numbers(tensor, where, kind, field, count)
        self._taken += needed
        return values.astype(np.dtype(kind).newbyteorder("="), copy=False).reshape(shape)

    def _numbers(
        self, tensor: onnx.TensorProto, where: str, kind: str, field: str, count: int
    ) -> np.ndarray:
        needed = count * np.dtype(kind).itemsize
        if tensor.data_location == _Kind.EXTERNAL:
            return np.frombuffer(self._external(tensor, where, needed), dtype=kind)
        if tensor.HasField("raw_data"):
            if len(tensor.raw_data) != needed:
                raise self._error(
                    where,
                    f"declares shape {tuple(tensor.dims)}, {needed} bytes, but holds "
                    f"{len(tensor.raw_data)}",
                )
            return np.frombuffer(tensor.raw_data, dtype=kind)
        data: Any = getattr(tensor, field)
        if len(data) != count:
            raise self._error(
                where,
                f"declares shape {tuple(tensor.dims)}, {count} numbers, but holds {len(data)}",
            )
        return np.array(data, dtype=kind)

    def _external(self, tensor: onnx.TensorProto, where: str, needed: int) -> bytes:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        path = self._beside(entries.get("location", ""), where)
        offset = self._whole(entries.get("offset", "0"), where, "offset")
        available = path.stat().st_size - offset
        length = self._whole(entries.get("length", str(needed)), where, "length")
        if length != needed or available < length:
            raise self._error(
                where,
                f"needs {needed} bytes, but its external data are {length} bytes from {offset} on "
                f"in {path.name}, a file of {path.stat().st_size} bytes",
            )
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
        if len(data) != length:
            raise self._error(where, f"{path.name} ends before its external data do")
        return data

    def _beside(self, location: str, where: str) -> Path:
        """The file of external data: a regular one, inside the model's own folder."""
        folder = path = self.source.parent.resolve()
        try:
            # Resolved, so that neither .. nor a link leads out of the folder.
            path = (folder / location).resolve()
            inside = bool(location) and path.is_relative_to(folder)
            regular = inside and path.is_file()
        except (OSError, ValueError, RuntimeError):
            inside = regular = False
        if not inside:
            raise self._error(
                where,
                f"has external data at {location!r:.80}, outside the folder of the model, which is "
                "never read",
            )
        if not regular:
            raise self._error(
                where,
                f"has external data in {location!r:.80}, but there is no such file beside the "
                "model: copy it there",
            )
        return path

    def _whole(self, text: str, where: str, what: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise self._error(where, f"has an external data {what} of {text!r:.40}")
        return int(text)

    def _error(self, where: str, what: str) -> ModelFileError:
        return ModelFileError(f"{self.source}: tensor {where} {what}.")


def _name_of(data_type: int) -> str:
    try:
        return _Kind.DataType.Name(data_type).lower()  # pyright: ignore[reportArgumentType]
    except ValueError:
        return str(data_type)
