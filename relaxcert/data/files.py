"""Points and labels from .npz, .npy and .csv files, checked before and after reading."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from relaxcert.errors import DataError

_LIMIT = 8 * 2**30  # bytes that a file may ask for


def read_points(
    path: str | Path, *, features: int | None = None, num_classes: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Read points and, if present, labels.

    ``.npz``: arrays ``x`` (points, ...) and optionally ``y`` (points,). ``.npy``: the points.
    ``.csv``: one point a line, numbers only (a first line of names is skipped), the label in a
    last column named ``label`` or, with ``features`` given, in column features + 1.

    Args:
        path: the file.
        features: numbers a point, if known.
        num_classes: labels must lie in 0..num_classes - 1.

    Returns:
        Inputs (float32; float64 where the file has float64) and int64 labels or None.

    Raises:
        DataError: anything wrong, with file, field or row, and remedy.
    """
    source = Path(path)
    readers = {".npz": _from_npz, ".npy": _from_npy, ".csv": _from_csv}
    reader = readers.get(source.suffix.lower())
    if reader is None:
        raise DataError(f"{source}: unknown kind of file, expected .npz, .npy or .csv.")
    if not source.is_file():
        raise DataError(f"{source}: there is no such file.")
    try:
        inputs, labels = reader(source, features)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source} cannot be read ({error}): is it complete?") from error
    return _check_inputs(source, inputs, features), _check_labels(
        source, labels, len(inputs), num_classes
    )


def _from_npz(source: Path, features: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    with zipfile.ZipFile(source) as archive:
        names = archive.namelist()
        if "x.npy" not in names:
            held = ", ".join(name.removesuffix(".npy") for name in names) or "nothing"
            raise DataError(
                f"{source}: field x is missing (found {held}): save with np.savez(x=, y=)."
            )
        arrays: dict[str, np.ndarray] = {}
        for name in ("x", "y"):
            if f"{name}.npy" in names:
                with archive.open(f"{name}.npy") as member:
                    _check_declared(cast(BinaryIO, member), source, name)
                with archive.open(f"{name}.npy") as member:
                    arrays[name] = npy.read_array(cast(BinaryIO, member), allow_pickle=False)
    return arrays["x"], arrays.get("y")


def _from_npy(source: Path, features: int | None) -> tuple[np.ndarray, None]:
    with source.open("rb") as file:
        _check_declared(file, source, "array")
        file.seek(0)
        return npy.read_array(file, allow_pickle=False), None


def _check_declared(file: BinaryIO, source: Path, field: str) -> None:
    """Refuse before any memory is taken: object arrays and sizes beyond the limit."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject or dtype.kind not in "fiub":
        raise DataError(f"{source}: field {field} has type {dtype}, expected plain numbers.")
    if np.prod([float(size) for size in shape]) * dtype.itemsize > _LIMIT:
        raise DataError(
            f"{source}: field {field} declares shape {shape}, more than {_LIMIT >> 30} GiB: split "
            "the file."
        )


def _from_csv(source: Path, features: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    if source.stat().st_size > _LIMIT:
        raise DataError(f"{source}: larger than {_LIMIT >> 30} GiB: split the file.")
    with source.open(encoding="utf-8") as file:
        header = [name.strip() for name in file.readline().split(",")]
    named = not _is_number(header[0])
    table: np.ndarray = np.loadtxt(source, delimiter=",", skiprows=int(named), ndmin=2)
    labelled = (named and header[-1].lower() == "label") or (
        features is not None and table.shape[1] == features + 1
    )
    if not labelled:
        return table, None
    return table[:, :-1], table[:, -1]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_inputs(source: Path, inputs: np.ndarray, features: int | None) -> Tensor:
    if inputs.ndim < 2 or 0 in inputs.shape[1:]:
        raise DataError(
            f"{source}: field x has shape {inputs.shape}, expected (points, features...)."
        )
    found = int(np.prod(inputs.shape[1:]))
    if features is not None and found != features:
        raise DataError(
            f"{source}: field x has {found} features a point, but the network takes {features}: "
            "use the data that the network was made for, in the same order of features."
        )
    if not np.issubdtype(inputs.dtype, np.number):
        raise DataError(f"{source}: field x has type {inputs.dtype}, expected numbers.")
    values = inputs.astype(np.float64 if inputs.dtype.itemsize > 4 else np.float32)
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
    if bad.any():
        raise DataError(
            f"{source}: row {int(bad.argmax())} of x holds NaN or infinity ({int(bad.sum())} such "
            "rows): remove or mend them; no statement can be made about such a point."
        )
    return torch.from_numpy(values)


def _check_labels(
    source: Path, labels: np.ndarray | None, points: int, num_classes: int | None
) -> Tensor | None:
    if labels is None:
        return None
    if labels.shape != (points,):
        raise DataError(
            f"{source}: field y has shape {labels.shape}, expected ({points},), one label a point."
        )
    whole = np.asarray(labels, dtype=np.float64)
    wrong = (whole != np.floor(whole)) | (whole < 0)
    if num_classes is not None:
        wrong |= whole >= num_classes
    if wrong.any():
        row = int(wrong.argmax())
        last = "" if num_classes is None else f" to {num_classes - 1}"
        raise DataError(
            f"{source}: row {row} of y is {labels[row]}, expected a class from 0{last}."
        )
    return torch.from_numpy(whole.astype(np.int64))
