"""A folder of results that take seconds to compute; each entry proves itself by a checksum."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from relaxcert.errors import CacheWarning
from relaxcert.files import write_atomically

ENVIRONMENT = "RELAXCERT_CACHE"
Arrays = dict[str, np.ndarray]


def cache_folder() -> Path:
    """The folder that RELAXCERT_CACHE names, or else the platform's folder for caches."""
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(base) / "relaxcert" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "relaxcert"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relaxcert"


def cached(
    name: str,
    key: Mapping[str, object],
    compute: Callable[[], Arrays],
    *,
    folder: Path | None = None,
) -> Arrays:
    """Return what ``compute`` returned when it was last called with this key, or call it.

    The entry is written atomically, and used only if its key is the same and its checksum holds;
    a damaged one is replaced with a warning. A folder that cannot be written to costs a warning.

    Args:
        name: what the entry is called; part of the file's name.
        key: everything that the result depends on, as JSON.
        compute: returns arrays of plain numbers by name.
        folder: instead of :func:`cache_folder`.
    """
    text = json.dumps(dict(key), sort_keys=True)
    stamp = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = (folder or cache_folder()) / f"{name}-{stamp}.safetensors"
    if path.exists():
        try:
            return _read(path, text)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            warnings.warn(
                f"{path} is damaged ({error}) and is computed anew.", CacheWarning, stacklevel=2
            )
    arrays = {field: np.ascontiguousarray(value) for field, value in compute().items()}
    metadata = {"key": text, "sha256": _checksum(arrays)}
    try:
        write_atomically(path, lambda temporary: save_file(arrays, temporary, metadata))
    except OSError as error:
        warnings.warn(
            f"{path} cannot be written ({error}): set {ENVIRONMENT} to a folder of yours, or it is "
            "computed each time.",
            CacheWarning,
            stacklevel=2,
        )
    return arrays


def _read(path: Path, key: str) -> Arrays:
    with safe_open(path, framework="numpy") as file:
        metadata: dict[str, str] = file.metadata() or {}
        if metadata.get("key") != key:
            raise ValueError("it belongs to another key")
        arrays: Arrays = {field: file.get_tensor(field) for field in file.keys()}  # noqa: SIM118
    if metadata.get("sha256") != _checksum(arrays):
        raise ValueError("its checksum is wrong")
    return arrays


def _checksum(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for field in sorted(arrays):
        value = arrays[field]
        digest.update(f"{field} {value.dtype.str} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
