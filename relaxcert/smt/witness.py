"""Witnesses on disk: a ``.npz`` with exact rationals as text beside floats, and their replay."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from relaxcert.errors import DataError
from relaxcert.files import write_atomically
from relaxcert.smt.judge import Judgement, PointJudge
from relaxcert.smt.network import ExactNetwork
from relaxcert.smt.query import Exact
from relaxcert.spec.canonical import canonical_json, from_canonical
from relaxcert.spec.property import Property

_LIMIT = 256 * 2**20  # bytes that such a file may unpack to


@dataclass(frozen=True)
class Witness:
    """A point, and the x' that break a property there.

    Attributes:
        prop: the property.
        point: x, exact.
        witnesses: one x' for each broken part, exact.
        weights: fingerprint of the network's weights.
        shape: of one input; empty where the file does not say: flat.
    """

    prop: Property
    point: Exact
    witnesses: tuple[Exact, ...]
    weights: str
    shape: tuple[int, ...] = ()

    def replay(self, network: ExactNetwork) -> Judgement:
        """Judge again with nothing but the witnesses; FALSIFIED confirms them."""
        judge = PointJudge(network, self.point, 1e-3, candidates=self.witnesses)
        return judge.judge(self.prop)


def save_witness(path: str | Path, witness: Witness) -> Path:
    """Write ``x``, ``witnesses`` (float64, rounded), ``x_exact``, ``witnesses_exact`` (texts).

    The floats are for convenience: only the exact texts are read back.
    """
    exact = [[str(value) for value in row] for row in witness.witnesses]
    arrays = {
        "x": np.array([float(value) for value in witness.point]),
        "x_exact": np.array([str(value) for value in witness.point]),
        "witnesses": np.array([[float(value) for value in row] for row in witness.witnesses]),
        "witnesses_exact": np.array(exact),
        "property": np.array(canonical_json(witness.prop)),
        "weights": np.array(witness.weights),
        "shape": np.array(witness.shape or (len(witness.point),), dtype=np.int64),
    }

    def write(name: Path) -> None:
        with name.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    return write_atomically(path, write)


def load_witness(path: str | Path) -> Witness:
    """Read such a file.

    Raises:
        DataError: not such a file, or damaged; names the field.
    """
    source = Path(path)
    if not source.is_file():
        raise DataError(f"{source}: there is no such file.")
    try:
        _check_size(source)
        with np.load(source, allow_pickle=False) as arrays:
            text = {name: arrays[name] for name in ("x_exact", "witnesses_exact")}
            prop = from_canonical(str(arrays["property"]))
            weights = str(arrays["weights"])
            shape = tuple(map(int, arrays["shape"])) if "shape" in arrays else ()
        point = tuple(map(_fraction, text["x_exact"].tolist()))
        witnesses = tuple(tuple(map(_fraction, row)) for row in text["witnesses_exact"].tolist())
    except DataError:
        raise
    except (OSError, ValueError, KeyError, ZeroDivisionError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{source} cannot be read as a witness ({error}): give a .npz file that "
            "relaxcert crosscheck wrote."
        ) from error
    if not point or any(len(row) != len(point) for row in witnesses):
        raise DataError(f"{source}: x and the witnesses have different numbers of inputs.")
    if shape and (min(shape) < 1 or math.prod(shape) != len(point)):
        raise DataError(f"{source}: shape {shape} does not fit the {len(point)} numbers of x.")
    return Witness(prop, point, witnesses, weights, shape)


def _check_size(source: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _LIMIT:
            raise DataError(f"{source}: unpacks to more than {_LIMIT >> 20} MiB: no witness.")


def witness_of(
    record: dict[str, Any],
    point: Exact,
    prop: Property,
    weights: str,
    shape: tuple[int, ...] = (),
) -> Witness:
    """The witness in a cross-check's record."""
    found = [tuple(map(Fraction, entry["witness"])) for entry in record["evidence"]]
    return Witness(prop, point, tuple(found), weights, shape)


def _fraction(text: object) -> Fraction:
    if not isinstance(text, str) or len(text) > 100_000:
        raise ValueError("an exact number must be a text 'n/d'")
    return Fraction(text)
