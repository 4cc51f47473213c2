"""Networks as ONNX files: the backbone alone, or with its head, so that the file itself certifies.

What the file of :func:`export_onnx` guarantees, and of which engines: ``backbone.py``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import nn

from relaxcert import __version__
from relaxcert.errors import InvalidInput
from relaxcert.files import write_atomically
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.interop.onnx_export.backbone import write_guarded, write_plain
from relaxcert.interop.onnx_export.heads import write_head
from relaxcert.interop.onnx_export.links import OnnxLinks
from relaxcert.interop.onnx_export.outputs import write_outputs
from relaxcert.interop.onnx_export.writer import Writer
from relaxcert.lipschitz.directed import unit_of
from relaxcert.lipschitz.graph import Graph
from relaxcert.lipschitz.tracing import trace
from relaxcert.lipschitz.verified import fingerprint
from relaxcert.spec.ball import Ball
from relaxcert.spec.canonical import canonical_json

__all__ = ["export_backbone", "export_onnx", "onnx_model"]

FORMAT = "relaxcert-onnx"
VERSION = "1"
# Layers whose bound needs no shape although they change it.
_SHAPED = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


def export_onnx(
    net: GloRoNet,
    path: str | Path,
    *,
    input_shape: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
) -> Path:
    """Write backbone and head to an ONNX file that certifies by itself.

    Inputs: ``x`` (batch, *input_shape), of the weights' type. Outputs: ``logits`` (batch, classes +
    1), bottom last; ``certified`` (batch,) bool; ``k`` (batch,) int64, the loosest certified prefix
    length or 0; ``set`` (batch, classes) bool; ``radius`` (batch,) float64, in units of the input
    norm.

    The engine computes in the weights' precision, so bottom carries an allowance for its rounding:
    ``certified`` implies that :meth:`GloRoNet.certify` certifies the point (level R), with a k and
    a radius at least as large. The converse holds but for points within rounding of the margin.
    The bounds are proved now and stored in the file, which must be trusted as it is: whoever gets
    it from elsewhere should certify with relaxcert, which proves bounds anew.

    Args:
        net: the network; its weights are float32 or float64.
        path: where to write; written atomically.
        input_shape: of one point, without the batch; needed if the network does not tell.
        class_names: kept in the metadata.

    Raises:
        UnsupportedLayer: a layer that cannot be written, or not with a known rounding.
        InvalidInput: the input shape is missing or does not fit; bounds that are infinite.
        The errors of :meth:`GloRoNet.verify`.
    """
    model = onnx_model(net, input_shape=input_shape, class_names=class_names)
    return write_atomically(path, lambda name: name.write_bytes(model.SerializeToString()))


def onnx_model(
    net: GloRoNet,
    *,
    input_shape: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """The model of :func:`export_onnx`, not yet written."""
    shape = _input_shape(net.backbone, input_shape, net.lipschitz.input_shape)
    dtype = _dtype(net.backbone)
    bounds = net.verify(shape)
    graph = (bounds.frozen or trace(net.backbone)).with_shapes(shape)
    names = _class_names(class_names, net.num_classes)
    write = Writer()
    written = write_guarded(write, graph, bounds, "x", dtype)
    wide = write.cast(written.logits, torch.float64)
    links: dict[Ball, OnnxLinks] = {}

    def links_in(ball: Ball) -> OnnxLinks:
        if ball not in links:
            links[ball] = OnnxLinks(write, ball, written, bounds, wide)
        return links[ball]

    outcome = write_head(write, net.head, written.logits, links_in)
    fits = [found.fits for found in links.values()]
    usable = write.fold("And", [written.usable, *fits])
    outputs = write_outputs(write, net.prop, outcome, written.logits, wide, usable, dtype)
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "relaxcert": __version__,
        "property": canonical_json(net.prop),
        "digest": net.digest,
        "weights_sha256": bounds.fingerprint,
        "class_names": json.dumps(names),
        "level": "R",
        "assumes": "IEEE-754 with gradual underflow; matrix products by conventional products and "
        "sums in any order: onnxruntime's CPU provider at any optimisation level. No TF32, no "
        "bfloat16, no flushing of denormals.",
    }
    described = [
        (name, kind, [size if size != -1 else net.num_classes + extra for size in sizes])
        for name, kind, sizes, extra in outputs
    ]
    return write.model([("x", dtype, ["batch", *shape])], described, metadata)


def export_backbone(
    backbone: nn.Module,
    path: str | Path,
    *,
    input_shape: Sequence[int] | None = None,
    fixed_batch: bool = False,
) -> Path:
    """Write a backbone alone, (batch, *input_shape) -> ``logits``, for other tools.

    In plain operators (Gemm, Relu, Conv, ...), which :func:`relaxcert.interop.load_onnx` reads
    back. There is no guarantee about an engine's rounding.

    Args:
        backbone: layers that have a rule.
        path: where to write; written atomically.
        input_shape: of one point, without the batch; needed if the network does not tell.
        fixed_batch: declare a batch of 1, as some verifiers want, in place of a free one.

    Raises:
        UnsupportedLayer, InvalidInput: as :func:`export_onnx`.
    """
    shape = _input_shape(backbone, input_shape)
    dtype = _dtype(backbone)
    graph = trace(backbone).with_shapes(shape)
    write = Writer()
    write.named(write_plain(write, graph, "x", dtype), "logits")
    batch = 1 if fixed_batch else "batch"
    classes = graph.nodes[-1].shape or ()
    metadata = {
        "format": f"{FORMAT}-backbone",
        "version": VERSION,
        "relaxcert": __version__,
        "weights_sha256": fingerprint(backbone),
    }
    model = write.model(
        [("x", dtype, [batch, *shape])], [("logits", dtype, [batch, *classes])], metadata
    )
    return write_atomically(path, lambda name: name.write_bytes(model.SerializeToString()))


def _dtype(backbone: nn.Module) -> torch.dtype:
    tensors = [t for t in (*backbone.parameters(), *backbone.buffers()) if t.is_floating_point()]
    kinds = {tensor.dtype for tensor in tensors}
    if len(kinds) > 1:
        raise InvalidInput(
            f"the backbone mixes weights of {sorted(map(str, kinds))}: cast it with .float() or "
            ".double()."
        )
    dtype = kinds.pop() if kinds else torch.float32
    unit_of(dtype)
    return dtype


def _input_shape(
    backbone: nn.Module, given: Sequence[int] | None, known: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    if given is not None:
        shape = tuple(int(size) for size in given)
        if not shape or min(shape) < 1:
            raise InvalidInput(
                f"input_shape={given} must hold the positive sizes of one point, without the batch."
            )
        return shape
    found = known or _told_by(trace(backbone))
    if found is None:
        raise InvalidInput(
            "input_shape is missing: the first layer does not tell the shape of a point, so give "
            "it, e.g. input_shape=(3, 32, 32)."
        )
    return found


def _told_by(graph: Graph) -> tuple[int, ...] | None:
    """(features,) if the input goes to a Linear layer, through layers that keep any shape."""
    for node in graph.nodes[1:]:
        if isinstance(node.layer, nn.Linear):
            return (node.layer.in_features,)
        shaped = node.rule is None or node.rule.needs_shape or isinstance(node.layer, _SHAPED)
        if shaped and not isinstance(node.layer, nn.Flatten | nn.Identity):
            return None
    return None


def _class_names(names: Sequence[str] | None, classes: int) -> list[str] | None:
    if names is None:
        return None
    if len(names) != classes:
        raise InvalidInput(f"class_names has {len(names)} names, expected {classes}.")
    return [str(name) for name in names]
