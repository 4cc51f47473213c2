"""From a file to a parsed ONNX model, with every size checked first."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from relaxcert.errors import ModelFileError
from relaxcert.interop.onnx_import.wire import Malformed, count_fields

OPSETS = range(9, 24)
_LIMIT = 2**30  # bytes of the file itself; external data come on top
_FIELDS = 1_000_000  # each takes up to 150 bytes once parsed
_STANDARD = ("", "ai.onnx")


def read_model(source: Path) -> tuple[onnx.ModelProto, int]:
    """The model in a file, and the version of the standard operators that it uses.

    External data are not read here.

    Raises:
        ModelFileError: no such file, too large, cut off, or of a version that is not read.
    """
    if not source.is_file():
        raise ModelFileError(f"{source}: there is no such file.")
    size = source.stat().st_size
    if size > _LIMIT:
        raise ModelFileError(
            f"{source} has {size} bytes, more than the {_LIMIT} that are read: store the weights "
            "as external data."
        )
    with source.open("rb") as file:
        data = file.read(size)
    try:
        count_fields(data, most=_FIELDS)
        model = onnx.load_model_from_string(data)
    except (Malformed, DecodeError, ValueError) as error:
        raise ModelFileError(
            f"{source} cannot be read as an ONNX file ({error}): copy or export it again."
        ) from error
    return model, _version(model, source)


def _version(model: onnx.ModelProto, source: Path) -> int:
    versions = {entry.version for entry in model.opset_import if entry.domain in _STANDARD}
    if not model.HasField("graph") or not versions:
        raise ModelFileError(
            f"{source} is not an ONNX model: it has no graph or names no version of the operators."
        )
    version = max(versions)
    if len(versions) > 1 or version not in OPSETS:
        raise ModelFileError(
            f"{source} uses opset {sorted(versions)}, expected one from {OPSETS[0]} to "
            f"{OPSETS[-1]}: convert it with onnx.version_converter."
        )
    return version
