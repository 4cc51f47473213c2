"""Backbones as data: a description in plain JSON, and back, without running code from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from relaxcert.errors import ModelFileError, UnsupportedLayer
from relaxcert.nn.blocks import Concatenation, Residual
from relaxcert.nn.descriptions import KINDS

Description = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]
_BLOCKS = ("Sequential", "Residual", "Concatenation")
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
    if isinstance(backbone, Residual) and kind is Residual:
        return {"kind": "Residual", "block": describe(backbone.block)}
    if isinstance(backbone, Concatenation) and kind is Concatenation:
        return {"kind": "Concatenation", "branches": [describe(b) for b in backbone.branches]}
    known = KINDS.get(kind.__name__)
    if known is None or known.type is not kind:
        names = ", ".join([*_BLOCKS, *KINDS])
        raise UnsupportedLayer(
            f"{kind.__name__} cannot be written to a model file, only {names}: write it as ONNX "
            "(relaxcert.interop.export_backbone(net.backbone, 'net.onnx'), which the commands take "
            "with --property), or save net.state_dict() with safetensors and rebuild the network "
            "in your own code (parametrised layers: save "
            "relaxcert.lipschitz.materialised(backbone))."
        )
    return {"kind": kind.__name__, **known.fields(backbone)}


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
    if kind in _BLOCKS:
        if depth >= _DEPTH:
            raise ModelFileError(f"architecture{path} is nested deeper than {_DEPTH} levels.")
        return _build_block(str(kind), fields, path, shapes, depth)
    known = KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise ModelFileError(
            f"architecture.{path} has kind {kind!r}, expected one of "
            f"{', '.join([*_BLOCKS, *KINDS])}."
        )
    prefix = f"{path}." if path else ""
    own = {
        name.removeprefix(prefix): shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }
    try:
        return known.build(fields, own)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ModelFileError(f"architecture.{path} ({kind}) is malformed: {error!r}.") from error


def _build_block(
    kind: str, fields: dict[str, Any], path: str, shapes: Shapes, depth: int
) -> nn.Module:
    prefix = f"{path}." if path else ""
    if kind == "Residual":
        return Residual(_build(fields.get("block"), f"{prefix}block", shapes, depth + 1))
    if kind == "Concatenation":
        branches = fields.get("branches")
        if not isinstance(branches, list) or not branches:
            raise ModelFileError(f"architecture.{path} (Concatenation) lists no branches.")
        listed: list[object] = branches
        return Concatenation(
            *(
                _build(branch, f"{prefix}branches.{index}", shapes, depth + 1)
                for index, branch in enumerate(listed)
            )
        )
    sequence = nn.Sequential()
    for name, child in _fields(fields.get("children"), path).items():
        if not (name.isidentifier() or name.isdigit()) or hasattr(sequence, name):
            raise ModelFileError(f"architecture{path} has a layer named {name!r}.")
        sequence.add_module(name, _build(child, f"{prefix}{name}", shapes, depth + 1))
    return sequence


def _fields(description: object, path: str) -> dict[str, Any]:
    if not isinstance(description, dict):
        raise ModelFileError(f"architecture.{path} must be a table, got {description!r:.80}.")
    return {str(key): value for key, value in description.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
