"""Backbones as data: a description in plain JSON, and back, without running code from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from relaxcert.errors import ModelFileError, UnsupportedLayer
from relaxcert.nn.layers import InputNormalisation, MinMax

Description = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]
_DEPTH = 32  # nesting of nn.Sequential; a deeper description is not one of ours


def describe(backbone: nn.Module) -> Description:
    """Describe a backbone of supported layers; weights are not included.

    Raises:
        UnsupportedLayer: a layer that cannot be written as data.
    """
    kind = type(backbone)
    if kind is nn.Sequential:
        # Not named_children(), which leaves out the second use of a shared layer.
        modules: dict[str, nn.Module] = vars(backbone)["_modules"]
        children = {name: describe(child) for name, child in modules.items()}
        return {"kind": "Sequential", "children": children}
    if kind is nn.Linear and isinstance(backbone, nn.Linear):
        bias: torch.Tensor | None = getattr(backbone, "bias", None)
        return {"kind": "Linear", "bias": bias is not None}
    if kind is nn.Flatten and isinstance(backbone, nn.Flatten):
        return {"kind": "Flatten", "start": backbone.start_dim, "end": backbone.end_dim}
    if kind is nn.Dropout and isinstance(backbone, nn.Dropout):
        return {"kind": "Dropout", "p": backbone.p}
    if kind in _PLAIN.values():
        return {"kind": kind.__name__}
    if kind is InputNormalisation:
        return {"kind": "InputNormalisation"}
    raise UnsupportedLayer(
        f"{kind.__name__} cannot be written to a model file, only {', '.join(_BUILDERS)}: save "
        "net.state_dict() with safetensors and rebuild the network in your own code."
    )


def build(description: object, shapes: Shapes) -> nn.Module:
    """Build the backbone of a description; weights have the given shapes but no values yet.

    Sizes come from ``shapes`` (the tensors that are really in the file), never from the
    description, so that no memory is taken for numbers that do not exist.

    Raises:
        ModelFileError: an unknown layer, a missing or malformed field, a missing tensor.
    """
    return _build(description, "", shapes, 0)


def _build(description: object, path: str, shapes: Shapes, depth: int) -> nn.Module:
    fields = _fields(description, path)
    kind = fields.get("kind")
    if kind == "Sequential":
        children = _fields(fields.get("children"), path)
        if depth >= _DEPTH:
            raise ModelFileError(f"architecture{path} is nested deeper than {_DEPTH} levels.")
        sequence = nn.Sequential()
        for name, child in children.items():
            if not (name.isidentifier() or name.isdigit()) or hasattr(sequence, name):
                raise ModelFileError(f"architecture{path} has a layer named {name!r}.")
            where = f"{path}.{name}" if path else name
            sequence.add_module(name, _build(child, where, shapes, depth + 1))
        return sequence
    builder = _BUILDERS.get(kind) if isinstance(kind, str) else None
    if builder is None:
        raise ModelFileError(
            f"architecture.{path} has kind {kind!r}, expected one of {', '.join(_BUILDERS)}."
        )
    try:
        return builder(fields, path, shapes)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelFileError(f"architecture.{path} ({kind}) is malformed: {error!r}.") from error


def _fields(description: object, path: str) -> dict[str, Any]:
    if not isinstance(description, dict):
        raise ModelFileError(f"architecture.{path} must be a table, got {description!r:.80}.")
    return {str(key): value for key, value in description.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _linear(fields: Description, path: str, shapes: Shapes) -> nn.Module:
    outputs, inputs = shapes[f"{path}.weight" if path else "weight"]
    return nn.Linear(inputs, outputs, bias=bool(fields["bias"]), device="meta")


def _flatten(fields: Description, path: str, shapes: Shapes) -> nn.Module:
    return nn.Flatten(int(fields["start"]), int(fields["end"]))


def _dropout(fields: Description, path: str, shapes: Shapes) -> nn.Module:
    return nn.Dropout(float(fields["p"]))


def _normalisation(fields: Description, path: str, shapes: Shapes) -> nn.Module:
    prefix = f"{path}." if path else ""
    return InputNormalisation(
        torch.zeros(shapes[prefix + "mean"]), torch.ones(shapes[prefix + "std"])
    )


def _plain(kind: type[nn.Module], fields: Description, path: str, shapes: Shapes) -> nn.Module:
    return kind()


_PLAIN: dict[str, type[nn.Module]] = {"ReLU": nn.ReLU, "MinMax": MinMax, "Identity": nn.Identity}
_BUILDERS: dict[str, Callable[[Description, str, Shapes], nn.Module]] = {
    "Linear": _linear,
    "Flatten": _flatten,
    "Dropout": _dropout,
    "InputNormalisation": _normalisation,
    **{name: partial(_plain, kind) for name, kind in _PLAIN.items()},
}
