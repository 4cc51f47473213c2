"""Reading points: the floats that a certificate speaks of, and their hashes.

The inputs of the network are the file's numbers, as float32 where float32 holds every number of
the file's type and as float64 elsewhere, divided by ``scale`` (rounded to that type) in that type,
round to nearest. They are hashed as float64, little-endian, in row order.
"""

from __future__ import annotations

import hashlib
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy

from relaxcert.checker.certificate import LIMIT, check_size
from relaxcert.checker.outcome import Unreadable

Array = np.ndarray[Any, Any]
_BROKEN = (OSError, ValueError, EOFError, KeyError, OverflowError, RuntimeError, SyntaxError,
           zipfile.BadZipFile, zlib.error, tokenize.TokenError, NotImplementedError)  # fmt: skip


def read_points(path: Path, scale: float = 1.0, *, features: int | None = None) -> Array:
    """The inputs in a .npz (array x), .npy or .csv file, divided by ``scale``; (points, ...).

    ``features``: numbers a point that the network takes, which tells labels in a .csv.
    """
    check_size(path)
    try:
        match path.suffix.lower():
            case ".npz":
                with zipfile.ZipFile(path) as archive:
                    size = archive.getinfo("x.npy").file_size
                    with archive.open("x.npy") as member:
                        numbers = _array(cast(BinaryIO, member), size)
            case ".npy":
                with path.open("rb") as file:
                    numbers = _array(file, path.stat().st_size)
            case ".csv":
                numbers = _table(path, features)
            case _:
                raise Unreadable(f"{path}: expected a .npz, .npy or .csv file.")
    except _BROKEN as error:
        raise Unreadable(f"{path}: cannot be read ({error}); is it complete?") from error
    return scaled(numbers, scale)


def scaled(numbers: Array, scale: float) -> Array:
    """The inputs of the network: see the module's text."""
    if not (math.isfinite(scale) and scale > 0):
        raise Unreadable(f"scale {scale} must be finite and greater than 0.")
    kind = np.float32 if np.can_cast(numbers.dtype, np.float32, casting="safe") else np.float64
    inputs = numbers.astype(kind)
    with np.errstate(all="ignore"):  # what is not finite is found later, and named
        return inputs if scale == 1.0 else inputs / kind(scale)


def hashes_of(inputs: Array) -> list[bytes]:
    """SHA-256 of every point."""
    exact = inputs.astype("<f8")
    return [hashlib.sha256(np.ascontiguousarray(point).tobytes()).digest() for point in exact]


def _array(file: BinaryIO, held: int) -> Array:
    """Sizes are compared with the file before memory is taken; no objects are ever built."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    need = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "fiub" or dtype.itemsize > 8 or len(shape) < 2 or min(shape) < 1:
        raise Unreadable(f"array of type {dtype} and shape {shape} does not hold points.")
    if need > min(held - file.tell(), LIMIT):
        raise Unreadable(f"array of shape {shape} is larger than its file, or than 1 GiB.")
    numbers = np.frombuffer(file.read(need), dtype)
    if dtype.kind in "iu" and dtype.itemsize == 8 and bool((np.abs(numbers.astype("f8")) >= 2**53)
                                                           .any()):  # fmt: skip
        raise Unreadable("whole numbers beyond 2^53 are not held by float64.")
    return numbers.reshape(shape, order="F" if fortran else "C")


def _table(path: Path, features: int | None) -> Array:
    """Numbers, one point a line; a first line of names is left out, and a last column of labels.

    Labels: the last column is named ``label``, or is one more than the network takes.
    """
    lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    names = [name.strip().strip('"').lower() for name in lines[0].split(",")] if lines else []
    try:
        float(names[0])
    except (ValueError, IndexError):
        lines = lines[1:]
    table = np.loadtxt(lines, delimiter=",", ndmin=2, comments=None)
    return table[:, :-1] if names[-1:] == ["label"] or table.shape[1] - 1 == features else table
