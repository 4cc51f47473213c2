"""Model files: weights, architecture and property in one safetensors file; no pickle, no bounds.

Metadata of the file: ``format`` and ``version``, ``architecture`` (JSON), ``property`` (canonical
JSON), ``digest`` (its SHA-256), ``class_names``, ``num_classes`` and ``input_shape`` (JSON; older
files lack the last two), and what the writer adds (``note.*``).
Verified bounds are never stored: whoever loads a network proves them again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from relaxcert.errors import InvalidWeights, ModelFileError, RelaxcertError
from relaxcert.files import write_atomically
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.nn.architecture import build, describe
from relaxcert.spec.canonical import canonical_json, digest, from_canonical

_FORMAT = "relaxcert-model"
_VERSION = "1"
_MOST_NUMBERS = 2**24  # of one point


@dataclass(frozen=True)
class Model:
    """A network read from a file, with what the file says about it.

    Attributes:
        net: backbone and property.
        class_names: if the file names them.
        notes: what else the writer noted.
        warn_of_inputs: warns of points outside the region that the file records, (batch, ...);
            None where it records none.
    """

    net: GloRoNet
    class_names: tuple[str, ...] | None
    notes: dict[str, str]
    warn_of_inputs: Callable[[Tensor], None] | None = None


def save_model(
    net: GloRoNet,
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write backbone, architecture and property to ``path``, atomically.

    Raises:
        UnsupportedLayer: the backbone holds a layer that cannot be written as data.
        InvalidWeights: weights that are NaN or infinite; nothing is written.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in net.backbone.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InvalidWeights(f"{name} holds NaN or infinite values: not saved to {path}.")
    metadata = {
        "format": _FORMAT,
        "version": _VERSION,
        "architecture": json.dumps(describe(net.backbone)),
        "property": canonical_json(net.prop),
        "digest": digest(net.prop),
        "input_shape": json.dumps(net.lipschitz.input_shape),
        "num_classes": json.dumps(net.num_classes),
        "class_names": json.dumps(None if class_names is None else list(class_names)),
        **{f"note.{key}": value for key, value in (notes or {}).items()},
    }
    return write_atomically(path, lambda name: save_file(tensors, name, metadata))


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> Model:
    """Read a model file.

    Raises:
        ModelFileError: not a model file, cut off, changed, or of another version.
    """
    source = Path(path)
    try:
        with safe_open(source, framework="pt", device="cpu") as file:
            metadata: dict[str, str] = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            _check_format(metadata, source)
            backbone = build(_json(metadata, "architecture", source), shapes)
            tensors = {name: file.get_tensor(name) for name in shapes}
    except FileNotFoundError as error:
        raise ModelFileError(f"{source}: there is no such file.") from error
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{source} cannot be read as a model file ({error}): it may be cut off or of another "
            "kind; copy it again, or write it with relaxcert train."
        ) from error
    except RelaxcertError as error:
        raise ModelFileError(
            f"{source}: {error}".replace(f"{source}: {source}", str(source))
        ) from error
    return _assemble(source, metadata, backbone, tensors, device)


def _assemble(
    source: Path,
    metadata: dict[str, str],
    backbone: torch.nn.Module,
    tensors: dict[str, torch.Tensor],
    device: str | torch.device,
) -> Model:
    try:
        backbone.load_state_dict(tensors, assign=True)
        for parameter in backbone.parameters():
            parameter.requires_grad_()
        prop = from_canonical(metadata.get("property", ""))
        shape = _input_shape(_json(metadata, "input_shape", source), source)
        classes = _json(metadata, "num_classes", source)
        net = GloRoNet(backbone, prop, classes if type(classes) is int else None, input_shape=shape)
    except (RuntimeError, RelaxcertError) as error:
        raise ModelFileError(f"{source} does not hold together: {error}") from error
    if metadata.get("digest") != digest(prop):
        raise ModelFileError(
            f"{source}: the property does not match its digest, so the file was changed after it "
            "was written; train or save again."
        )
    names = _class_names(_json(metadata, "class_names", source), net.num_classes, source)
    notes = {key[5:]: value for key, value in metadata.items() if key.startswith("note.")}
    return Model(net.to(device).eval(), names, notes)


def _check_format(metadata: Mapping[str, str], source: Path) -> None:
    if metadata.get("format") != _FORMAT:
        raise ModelFileError(
            f"{source} is a safetensors file, but not one that relaxcert wrote: its metadata has "
            f"no format={_FORMAT!r}."
        )
    if metadata.get("version") != _VERSION:
        raise ModelFileError(
            f"{source} has format version {metadata.get('version')!r}, this relaxcert reads "
            f"{_VERSION!r}: update relaxcert."
        )


def _json(metadata: Mapping[str, str], field: str, source: Path) -> Any:
    try:
        return json.loads(metadata.get(field, "null"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{source}: field {field} of the metadata is not JSON.") from error


def _input_shape(found: Any, source: Path) -> tuple[int, ...] | None:
    """The shape of one point; older files have none."""
    if found is None:
        return None
    listed: list[Any] = found if isinstance(found, list) else [None]
    if (
        not listed
        or len(listed) > 4
        or any(type(n) is not int or not 0 < n < 2**20 for n in listed)
    ):
        raise ModelFileError(f"{source}: input_shape is {found!r:.80}, expected a few sizes.")
    if math.prod(listed) > _MOST_NUMBERS:
        raise ModelFileError(f"{source}: input_shape is {found!r:.80}, more numbers than expected.")
    return tuple(listed)


def _class_names(names: Any, num_classes: int, source: Path) -> tuple[str, ...] | None:
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != num_classes:  # pyright: ignore[reportUnknownArgumentType]
        raise ModelFileError(f"{source}: class_names must list {num_classes} names.")
    return tuple(str(name) for name in names)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
