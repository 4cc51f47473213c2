"""Counterexamples as files: a point, what breaks it, the property, and how to replay it."""

from __future__ import annotations

import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from relaxcert.errors import DataError
from relaxcert.files import write_atomically
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.spec.canonical import canonical_json

_LIMIT = 2**28  # bytes of one array that is read back
_FIELDS = ("x", "witnesses", "message", "property", "model", "fingerprint")


@dataclass(frozen=True)
class Counterexample:
    """What was saved.

    Attributes:
        point: x, (...), float64.
        witnesses: x' that together break it, (points, ...), float64; None where the certificate is
            wrong at x itself.
        message: what the check said.
        prop: canonical JSON of the property.
        model: path of the model file, or an empty text.
        fingerprint: SHA-256 of the weights.
    """

    point: Tensor
    witnesses: Tensor | None
    message: str
    prop: str
    model: str
    fingerprint: str


def save(
    folder: Path, name: str, net: GloRoNet, found: tuple[Tensor, Tensor | None, str], model: str
) -> Path:
    """Write ``folder/name.npz``, atomically; found: x, the x' or None, what the check said."""
    point, witnesses, message = found
    arrays = {
        "x": point.numpy(),
        "witnesses": np.zeros(0) if witnesses is None else witnesses.numpy(),
        "message": np.array(message),
        "property": np.array(canonical_json(net.prop)),
        "model": np.array(model),
        "fingerprint": np.array(net.verify().fingerprint),
    }

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]

    return write_atomically(folder / f"{name}.npz", write)


def load(path: Path) -> Counterexample:
    """Read a counterexample; nothing in the file is run.

    Raises:
        DataError: not a file that :func:`save` wrote, or a larger one than any check writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        if set(sizes) != {f"{field}.npy" for field in _FIELDS} or max(sizes.values()) > _LIMIT:
            raise DataError(f"{path} is not a counterexample that relaxcert wrote.")
        with np.load(path, allow_pickle=False) as data:
            arrays = {field: data[field] for field in _FIELDS}
        texts = {field: str(arrays[field]) for field in _FIELDS[2:]}
        point = torch.tensor(arrays["x"], dtype=torch.float64)
        witnesses = torch.tensor(arrays["witnesses"], dtype=torch.float64)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, KeyError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as a counterexample ({error}).") from error
    return Counterexample(
        point,
        None if witnesses.numel() == 0 else witnesses,
        texts["message"],
        texts["property"],
        texts["model"],
        texts["fingerprint"],
    )


def replay_command(path: Path, model: str) -> str:
    """The command line that replays a counterexample."""
    model = model or "MODEL"
    return (
        f"python -m relaxcert.testing.replay {shlex.quote(str(path))} --model {shlex.quote(model)}"
    )
