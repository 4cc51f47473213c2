"""``relaxcert export``: networks and properties in the formats of other tools."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from relaxcert.cli.common import (
    BestOption,
    Json,
    ModelPath,
    PropertyOption,
    console,
    load_net,
    load_points,
    property_in_words,
    table,
)
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import Model
from relaxcert.interop.vnnlib.export import export_vnnlib
from relaxcert.interop.vnnlib.manifest import Manifest, files_of
from relaxcert.interop.vnnlib.writer import Version
from relaxcert.report.verdicts import to_json


def export(
    model: ModelPath,
    onnx: Annotated[
        Path | None,
        typer.Option(help="ONNX file that certifies by itself: backbone and head."),
    ] = None,
    backbone: Annotated[
        Path | None, typer.Option(help="ONNX file of the backbone alone, for other tools.")
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(
            help="For ONNX, if the network does not tell: sizes of a point, e.g. 3,32,32."
        ),
    ] = None,
    vnnlib: Annotated[
        Path | None, typer.Option(help="Folder for VNN-LIB files and manifest.json.")
    ] = None,
    vnnlib_version: Annotated[
        str, typer.Option(help="1.0 (boxes) or 2.0 (an l2 ball as a polynomial constraint).")
    ] = "1.0",
    data: Annotated[
        str | None,
        typer.Option(help="For --vnnlib: a .npz, .npy or .csv file of points, or landsat:test."),
    ] = None,
    prop: PropertyOption = None,
    best: BestOption = None,
    points: Annotated[
        int | None, typer.Option(min=1, help="Export the first so many points only.")
    ] = None,
    scale: Annotated[
        float, typer.Option(min=1e-30, help="Divide the file's numbers by this, e.g. 255.")
    ] = 1.0,
    json: Json = False,
) -> None:
    """Export a network as ONNX, or its property at points as VNN-LIB, for other tools.

    --onnx writes backbone and head: the file gives logits with bottom, certified, k, set and
    radius, and what it certifies in onnxruntime (CPU) is certified by relaxcert too. --backbone
    writes the network alone. --vnnlib writes queries: a file states the violation, so UNSAT means
    robust. A uniform property is a set of files, robust if any is UNSAT; manifest.json says which.

    Example: [bold]relaxcert export relaxcert-demo/landsat-rt3.safetensors --vnnlib queries
    --data landsat:test --points 10[/bold]

    Example: [bold]relaxcert export relaxcert-demo/landsat-rt3.safetensors --onnx net.onnx[/bold]
    """
    if vnnlib is None and onnx is None and backbone is None:
        raise InvalidInput("nothing to export: give --onnx FILE, --backbone FILE or --vnnlib DIR.")
    if vnnlib is not None and data is None:
        raise InvalidInput("--vnnlib needs --data: a file of points, or landsat:test.")
    if not math.isfinite(scale):
        raise InvalidInput(f"--scale {scale} must be finite: give what to divide by, e.g. 255.")
    loaded = load_net(model, prop, best)
    net = loaded.net
    written = _write_networks(loaded, onnx, backbone, _sizes(input_shape))
    if vnnlib is None or data is None:
        if json:
            typer.echo(to_json({**written, "digest": net.digest}, indent=2))
        else:
            _show_written(written)
        return
    inputs, _ = load_points(data, net)
    chosen = inputs[:points] / scale if scale != 1.0 else inputs[:points]
    manifest = export_vnnlib(
        net, chosen, vnnlib, version=_version(vnnlib_version), class_names=loaded.class_names
    )
    if json:
        typer.echo(to_json({**_summary(manifest, vnnlib), **written}, indent=2))
    else:
        _show_written(written)
        _show(net, manifest, vnnlib)


def _show_written(written: dict[str, str]) -> None:
    for what, file in written.items():
        console().print(f"{what} written to {file}", markup=False)


def _write_networks(
    loaded: Model, onnx: Path | None, backbone: Path | None, shape: tuple[int, ...] | None
) -> dict[str, str]:
    if onnx is None and backbone is None:
        return {}
    from relaxcert.interop.onnx_export import export_backbone  # onnx, which few calls need

    known = shape or loaded.net.lipschitz.input_shape
    written: dict[str, str] = {}
    if onnx is not None:
        loaded.net.export(onnx, input_shape=known, class_names=loaded.class_names)
        written["onnx"] = str(onnx)
    if backbone is not None:
        export_backbone(loaded.net.backbone, backbone, input_shape=known)
        written["backbone"] = str(backbone)
    return written


def _sizes(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and 0 < int(word) < 2**31 for word in words):
        raise InvalidInput(f"--input-shape {text} must be sizes of at least 1, e.g. 3,32,32.")
    return tuple(int(word) for word in words)


def _version(text: str) -> Version:
    if text not in ("1.0", "2.0"):
        raise InvalidInput(f"--vnnlib-version {text} must be 1.0 or 2.0.")
    return text


def _summary(manifest: Manifest, folder: Path) -> dict[str, object]:
    written = [point for point in manifest.points if point.robust is not None]
    files = [file for point in written if point.robust for file in files_of(point.robust)]
    return {
        "folder": str(folder),
        "vnnlib": manifest.vnnlib,
        "digest": manifest.digest,
        "weights_sha256": manifest.weights_sha256,
        "points": len(manifest.points),
        "skipped": len(manifest.points) - len(written),
        "files": len(files),
        "boxes_around_balls": sum(file.inputs != "ball" for file in files),
        "most_conjunctions": max((file.conjunctions for file in files), default=0),
    }


def _show(net: GloRoNet, manifest: Manifest, folder: Path) -> None:
    summary = _summary(manifest, folder)
    screen = console()
    screen.print(
        f"{property_in_words(net.prop)}\nsha256 {manifest.digest}", markup=False, soft_wrap=True
    )
    columns = ("VNN-LIB", "points", "skipped", "files", "most conjunctions")
    cells = [str(summary[key]) for key in ("points", "skipped", "files", "most_conjunctions")]
    screen.print(table(f"{folder}", columns, [[manifest.vnnlib, *cells]]))
    for point in manifest.points:
        if point.skipped is not None:
            screen.print(f"point {point.index} skipped: {point.skipped}", markup=False)
    if summary["skipped"]:
        screen.print(
            f"{summary['skipped']} of {summary['points']} points have no query: float64 does not "
            "settle the order of their logits"
        )
    if summary["boxes_around_balls"]:
        screen.print(
            "the inputs are boxes around balls: UNSAT carries over, SAT only if the point found "
            "lies in the ball"
        )
