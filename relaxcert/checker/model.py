"""Reading a model file: the layers of a chain and their stored numbers; nothing is executed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from relaxcert.checker.certificate import canonical, check_size
from relaxcert.checker.outcome import Unreadable

Array = np.ndarray[Any, Any]
PLAIN = ("ReLU", "Abs", "LeakyReLU", "MinMax", "Flatten", "Identity", "Dropout")
CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d")
_DEPTH = 32
_TYPES = ("<f4", "<f8")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its path in the model, its kind, its numbers in float64 (exact), its settings."""

    path: str
    kind: str
    numbers: dict[str, Array]
    fields: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Model:
    """Layers in order of application, the hash of all stored numbers, the model's property."""

    layers: tuple[Layer, ...]
    weights: str
    digest: str

    @property
    def features(self) -> int | None:
        """Numbers a point that the first Linear layer takes."""
        sizes = [
            layer.numbers["weight"].shape[1] for layer in self.layers if layer.kind == "Linear"
        ]
        return sizes[0] if sizes else None


def read_model(path: Path) -> Model:
    """Read a safetensors file that relaxcert wrote; raises Unreadable."""
    check_size(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise Unreadable(f"{path}: cannot be read as a model file ({error}).") from error
    if (metadata.get("format"), metadata.get("version")) != ("relaxcert-model", "1"):
        raise Unreadable(f"{path}: not a model file of relaxcert, or of another version.")
    try:
        architecture = json.loads(metadata.get("architecture", ""))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path}: its architecture is not JSON.") from error
    digest = metadata.get("digest", "")
    if hashlib.sha256(metadata.get("property", "").encode()).hexdigest() != digest:
        raise Unreadable(f"{path}: its property does not match its digest: the file was changed.")
    unused = dict(tensors)
    layers = tuple(_layers(architecture, "", unused, 0))
    if unused:
        raise Unreadable(f"{path}: tensors that no layer uses: {', '.join(sorted(unused))[:200]}.")
    weights = hash_of_weights(architecture, tensors)
    return Model(layers, weights, digest)


def hash_of_weights(architecture: object, tensors: dict[str, Array]) -> str:
    """SHA-256 of the canonical architecture and of names, types, shapes and bytes, by name."""
    found = hashlib.sha256(canonical(architecture).encode())
    for name, tensor in sorted(tensors.items()):
        stored = np.ascontiguousarray(tensor)
        found.update(f"\n{canonical([name, stored.dtype.str, list(tensor.shape)])}\n".encode())
        found.update(stored.tobytes())
    return found.hexdigest()


def _layers(description: Any, path: str, tensors: dict[str, Array], depth: int) -> list[Layer]:
    """Flatten nested sequences; take each layer's tensors out of ``tensors``."""
    kind = description.get("kind") if isinstance(description, dict) else None
    if kind == "Sequential" and isinstance(description.get("children"), dict) and depth < _DEPTH:
        found: list[Layer] = []
        for name, child in description["children"].items():
            found += _layers(child, f"{path}.{name}" if path else name, tensors, depth + 1)
        return found
    names: tuple[str, ...] = ()
    if kind in ("Linear", *CONVOLUTIONS):
        names = ("weight", "bias") if description.get("bias") is True else ("weight",)
    elif kind == "InputNormalisation":
        names = ("mean", "std")
    elif kind not in PLAIN:
        known = ", ".join((*PLAIN, *CONVOLUTIONS, "Linear", "InputNormalisation", "Sequential"))
        raise Unreadable(
            f"layer {path} is a {str(kind)[:80]}, which this checker does not know (it knows "
            f"{known}): nothing is said about certificates of such networks."
        )
    if kind == "Flatten" and (description.get("start"), description.get("end")) != (1, -1):
        raise Unreadable(f"layer {path}: this checker knows Flatten(1, -1) only.")
    slope = description.get("negative_slope", 0.0)
    if not isinstance(slope, float) or not -1.0 <= slope <= 1.0:
        raise Unreadable(f"layer {path}: this checker knows slopes from -1 to 1 only.")
    numbers = {name: _numbers(path, name, tensors) for name in names}
    return [Layer(path, str(kind), numbers, description)]


def _numbers(path: str, name: str, tensors: dict[str, Array]) -> Array:
    tensor = tensors.pop(f"{path}.{name}" if path else name, None)
    if tensor is None or tensor.dtype.str not in _TYPES or tensor.size == 0:
        raise Unreadable(f"layer {path}: its {name} is missing, empty, or not float32 or float64.")
    exact = tensor.astype(np.float64)
    if not bool(np.isfinite(exact).all()) or (name == "std" and not bool((exact > 0).all())):
        raise Unreadable(f"layer {path}: its {name} holds numbers that are not finite, or not > 0.")
    return exact
