"""A network from a file of any known format, with the property that it is to be certified for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput, ModelFileError
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import Model, load_model
from relaxcert.interop.nnet import Best, read_nnet
from relaxcert.interop.onnx_import import read_onnx
from relaxcert.lipschitz.tracing import trace
from relaxcert.spec.property import Property

FORMATS = (".safetensors", ".onnx", ".nnet")


def load_network(
    path: str | Path,
    prop: Property | None = None,
    *,
    best: Best | None = None,
    device: str | torch.device = "cpu",
) -> Model:
    """Read a network and give it a property; the ending of the name tells the format.

    Args:
        path: ``.safetensors`` (a model file of relaxcert), ``.onnx`` or ``.nnet``.
        prop: the property; needed for ``.onnx`` and ``.nnet``, which hold none. It takes the place
            of the one in a model file.
        best: which score of an ``.onnx`` or ``.nnet`` file is the advice; by default ``max`` and
            ``min``. A model file has larger logits for better classes, always.
        device: where to put the network.

    Raises:
        InvalidInput: the property is missing, or best is given for a model file.
        ModelFileError: the file cannot be read; InvalidProperty: the property does not fit.
        UnsupportedLayer: a layer without a rule.
    """
    source = Path(path)
    ending = source.suffix.lower()
    if ending not in FORMATS:
        raise ModelFileError(
            f"{source}: unknown kind of network file, expected one of {', '.join(FORMATS)}."
        )
    if ending == ".safetensors":
        if best is not None:
            raise InvalidInput(f"best={best!r} is for .onnx and .nnet files only, not {source}.")
        model = load_model(source, device=device)
        return model if prop is None else _with_property(model, prop)
    if prop is None:
        raise InvalidInput(
            f"{source} holds a network but no property: say which one is to be certified "
            "(--property on the command line)."
        )
    network, shape, warn = _plain(source, ending, best)
    graph = trace(network)
    classes = None
    if graph.last is None:
        classes = (graph.with_shapes(shape).nodes[-1].shape or (0,))[-1]
    net = GloRoNet(network, prop, classes, input_shape=shape)
    return Model(net.to(device).eval(), None, {}, warn)


def _plain(
    source: Path, ending: str, best: Best | None
) -> tuple[nn.Module, tuple[int, ...], Callable[[Tensor], None] | None]:
    """The network, the shape of a point, and what warns of points outside a recorded region."""
    if ending == ".nnet":
        found = read_nnet(source, best=best or "min")
        return found.network, tuple(found.mean.shape), found.warn_of_inputs
    network = read_onnx(source, best=best or "max")
    return network.network, network.input_shape, None


def _with_property(model: Model, prop: Property) -> Model:
    old = model.net
    net = GloRoNet(old.backbone, prop, old.num_classes, input_shape=old.lipschitz.input_shape)
    return replace(model, net=net.eval())
