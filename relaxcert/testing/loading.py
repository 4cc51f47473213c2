"""What the command line of a test run names: model, property and data, read and made to fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from relaxcert.data.files import read_points
from relaxcert.errors import InvalidInput, ModelFileError
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import load_model
from relaxcert.nn.layers import InputNormalisation
from relaxcert.spec.documents import PropertyDocument
from relaxcert.spec.property import Property


@dataclass(frozen=True)
class Backbone:
    """A backbone from a file.

    Attributes:
        backbone: (batch, ...) -> (batch, classes), in eval mode.
        prop: the property in the file, if it holds one.
        input_shape: of one point, where the file says it.
    """

    backbone: nn.Module
    prop: Property | None
    input_shape: tuple[int, ...] | None


def load_backbone(path: Path, *, best: str = "max") -> Backbone:
    """Read a .safetensors file that relaxcert wrote, or an .onnx file.

    Raises:
        ModelFileError: not such a file; UnsupportedOperator among them.
    """
    if path.suffix.lower() == ".onnx":
        from relaxcert.interop import read_onnx

        found = read_onnx(path, best="min" if best == "min" else "max")
        return Backbone(found.network, None, found.input_shape)
    if path.suffix.lower() != ".safetensors":
        raise ModelFileError(
            f"{path} ends in neither .safetensors nor .onnx, the two kinds of model file."
        )
    net = load_model(path).net
    return Backbone(net.backbone, net.prop, _flat_shape(net.backbone))


def _flat_shape(backbone: nn.Module) -> tuple[int, ...] | None:
    """The size of a flat input, where the first layer that fixes it is a Linear one."""
    for layer in backbone.modules():
        if isinstance(layer, nn.Linear):
            return (layer.in_features,)
        if not isinstance(layer, _SHAPELESS):
            return None
    return None


_SHAPELESS = (nn.Sequential, nn.Flatten, nn.Identity, InputNormalisation)


def network_of(found: Backbone, prop: Property, document: PropertyDocument | None) -> GloRoNet:
    """The backbone with a property; raises InvalidProperty if the classes do not fit."""
    net = GloRoNet(found.backbone, prop).eval()
    if document is not None:
        document.check_classes(net.num_classes)
    return net


def load_points(path: Path, net: GloRoNet, shape: tuple[int, ...] | None) -> Tensor:
    """Finite points that fit the network, (batch, ...).

    Raises:
        DataError: the file cannot be read, holds no point, or holds NaN.
        InvalidInput: points of another shape than the network takes.
    """
    points, _ = read_points(path)
    if len(points) == 0:
        raise InvalidInput(f"{path} holds no points.")
    if not bool(points.isfinite().all()):
        raise InvalidInput(f"{path} holds NaN or infinite numbers: remove such points.")
    if shape is not None and points.shape[1:].numel() == torch.Size(shape).numel():
        points = points.reshape(len(points), *shape)
    try:
        net.certify(points[:1])
    except (InvalidInput, RuntimeError) as error:
        wanted = "" if shape is None else f", expected {tuple(shape)}"
        raise InvalidInput(
            f"{path} holds points of shape {tuple(points.shape[1:])}{wanted}, which do not fit the "
            f"model: {error}"
        ) from error
    return points
