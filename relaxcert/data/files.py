"""Points and labels from .npz, .npy and .csv files, checked before and after reading."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from relaxcert.errors import DataError

_LIMIT = 8 * 2**30  # bytes that a file may ask for
_EXACT = 2**53  # float64 holds every whole number up to here
# What zipfile, zlib, numpy and the file system raise for files that are not what they seem.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    OverflowError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    SyntaxError,  # these two by numpy, of a header that is not Python
    tokenize.TokenError,
)


def read_points(
    path: str | Path, *, features: int | None = None, num_classes: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Read points and, if present, labels.

    ``.npz``: arrays ``x`` (points, ...) and optionally ``y`` (points,). ``.npy``: the points.
    ``.csv``: one point a line, numbers only (a first line of names is skipped), the label in a
    last column named ``label`` or, with ``features`` given, in column features + 1; UTF-8.

    Args:
        path: the file.
        features: numbers a point, if known.
        num_classes: labels must lie in 0..num_classes - 1.

    Returns:
        Inputs (float32; float64 where float32 would not hold every number of the file's type)
        and int64 labels or None.

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
    except _UNREADABLE as error:
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
                held = archive.getinfo(f"{name}.npy").file_size
                with archive.open(f"{name}.npy") as member:
                    _check_declared(cast(BinaryIO, member), held, source, name)
                with archive.open(f"{name}.npy") as member:
                    arrays[name] = npy.read_array(cast(BinaryIO, member), allow_pickle=False)
    return arrays["x"], arrays.get("y")


def _from_npy(source: Path, features: int | None) -> tuple[np.ndarray, None]:
    with source.open("rb") as file:
        _check_declared(file, source.stat().st_size, source, "array")
        file.seek(0)
        return npy.read_array(file, allow_pickle=False), None


def _check_declared(file: BinaryIO, held: int, source: Path, field: str) -> None:
    """Refuse before any memory is taken: object arrays, sizes beyond the limit or the file."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject or dtype.kind not in "fiub":
        raise DataError(f"{source}: field {field} has type {dtype}, expected plain numbers.")
    if dtype.itemsize > 8:
        raise DataError(
            f"{source}: field {field} has type {dtype}, finer than float64, and would be rounded: "
            "save it as float64."
        )
    if any(size < 0 for size in shape):
        raise DataError(f"{source}: field {field} declares the impossible shape {shape}.")
    if 0 not in shape and math.prod(shape) * dtype.itemsize > _LIMIT:
        raise DataError(
            f"{source}: field {field} declares shape {str(shape)[:80]}, more than "
            f"{_LIMIT >> 30} GiB: split the file."
        )
    if math.prod(shape) * dtype.itemsize > held - file.tell():
        raise DataError(
            f"{source}: field {field} declares shape {shape}, but the file holds fewer "
            "numbers: it was cut off or damaged; copy it again."
        )


def _from_csv(source: Path, features: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    if source.stat().st_size > _LIMIT:
        raise DataError(f"{source}: larger than {_LIMIT >> 30} GiB: split the file.")
    # A byte order mark, which spreadsheets put first, is no part of the first number.
    with source.open(encoding="utf-8-sig") as file:
        lines = [line for line in file if line.strip()]
    header = [name.strip().strip('"') for name in lines[0].split(",")] if lines else []
    named = _is_header(source, header)
    if len(lines) == int(named):
        raise DataError(f"{source}: holds no points: give one point a line.")
    table: np.ndarray = np.loadtxt(lines[int(named) :], delimiter=",", ndmin=2, comments=None)
    labelled = (named and header[-1].lower() == "label") or (
        features is not None and table.shape[1] == features + 1
    )
    if not labelled:
        return table, None
    return table[:, :-1], table[:, -1]


def _is_header(source: Path, cells: list[str]) -> bool:
    """Whether the first line names the columns; a first point must never pass for names."""
    numbers = [_is_number(cell) for cell in cells]
    if any(numbers) and not all(numbers):
        raise DataError(
            f"{source}: line 1 mixes numbers with {cells[numbers.index(False)]!r}: give numbers "
            "only, or a first line of names that are no numbers."
        )
    if "label" in (cell.lower() for cell in cells[:-1]):
        raise DataError(
            f"{source}: column {[cell.lower() for cell in cells].index('label') + 1} is named "
            "label, but labels are read from the last column: move it there."
        )
    return not all(numbers)


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
    if len(inputs) == 0:
        raise DataError(f"{source}: field x holds no points: give at least one.")
    if not np.issubdtype(inputs.dtype, np.number):
        raise DataError(f"{source}: field x has type {inputs.dtype}, expected numbers.")
    if inputs.dtype.kind in "iu" and inputs.dtype.itemsize == 8 and _beyond(inputs, _EXACT).any():
        raise DataError(
            f"{source}: field x holds whole numbers beyond 2^53, which would be rounded: save "
            "numbers that float64 holds."
        )
    fits = np.can_cast(inputs.dtype, np.float32, casting="safe")
    values = inputs.astype(np.float32 if fits else np.float64)
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
    wrong = (whole != np.floor(whole)) | (whole < 0) | (whole >= _EXACT)
    if num_classes is not None:
        wrong |= whole >= num_classes
    if wrong.any():
        row = int(wrong.argmax())
        last = "" if num_classes is None else f" to {num_classes - 1}"
        raise DataError(
            f"{source}: row {row} of y is {labels[row]}, expected a class from 0{last}."
        )
    return torch.from_numpy(whole.astype(np.int64))


def _beyond(numbers: np.ndarray, limit: int) -> np.ndarray:
    return (numbers > limit) | (numbers < -limit if numbers.dtype.kind == "i" else False)
