"""Reading a model file: a description of layers and the stored numbers; nothing is executed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from relaxcert.checker.certificate import canonical, check_size
from relaxcert.checker.outcome import Unreadable

Array = np.ndarray[Any, Any]
_DEPTH = 128  # of JSON: a layer within a Sequential is two levels deeper


@dataclass(frozen=True, slots=True)
class Model:
    """What a model file holds; ``weights`` is the hash of architecture and tensors."""

    architecture: Any
    tensors: dict[str, Array]
    weights: str
    digest: str


def read_model(path: Path) -> Model:
    """Read a safetensors file that relaxcert wrote; raises Unreadable."""
    check_size(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        architecture = json.loads(metadata.get("architecture", ""))
    except (SafetensorError, OSError, TypeError, ValueError, RecursionError) as error:
        raise Unreadable(f"{path}: cannot be read as a model file ({error}).") from error
    if (metadata.get("format"), metadata.get("version")) != ("relaxcert-model", "1"):
        raise Unreadable(f"{path}: not a model file of relaxcert, or of another version.")
    digest = metadata.get("digest", "")
    if hashlib.sha256(metadata.get("property", "").encode()).hexdigest() != digest:
        raise Unreadable(f"{path}: its property does not match its digest: the file was changed.")
    return Model(architecture, tensors, hash_of_weights(architecture, tensors), digest)


def hash_of_weights(architecture: object, tensors: dict[str, Array]) -> str:
    """SHA-256 of the canonical architecture and of names, types, shapes and bytes, by name."""
    found = hashlib.sha256(canonical(_ordered(architecture)).encode())
    for name, tensor in sorted(tensors.items()):
        stored = np.ascontiguousarray(tensor)
        found.update(f"\n{canonical([name, stored.dtype.str, list(tensor.shape)])}\n".encode())
        found.update(stored.tobytes())
    return found.hexdigest()


def _ordered(fields: Any, depth: int = 0) -> Any:
    """Children as a list of pairs: their order counts, and that of a JSON table does not."""
    if depth > _DEPTH:
        raise Unreadable(f"the architecture is nested deeper than {_DEPTH} levels.")
    if isinstance(fields, list):
        return [_ordered(entry, depth + 1) for entry in fields]
    if not isinstance(fields, dict):
        return fields
    found = {name: _ordered(value, depth + 1) for name, value in fields.items()}
    if fields.get("kind") == "Sequential" and isinstance(fields.get("children"), dict):
        found["children"] = [[name, child] for name, child in found["children"].items()]
    return found


def first_width(architecture: Any, tensors: dict[str, Array], path: str = "") -> int | None:
    """Numbers a point that the first Linear layer of nested sequences takes."""
    children = architecture.get("children", {}) if isinstance(architecture, dict) else {}
    if path + "weight" in tensors and tensors[path + "weight"].ndim == 2:
        return tensors[path + "weight"].shape[1]
    names = children if isinstance(children, dict) else {}
    found = (first_width(names[name], tensors, f"{path}{name}.") for name in names)
    return next((width for width in found if width is not None), None)
