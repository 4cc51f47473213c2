"""``relaxcert export``: properties in the formats of other tools."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from relaxcert.cli.common import Json, console, load_points, property_in_words, table
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import load_model
from relaxcert.interop.vnnlib.export import export_vnnlib
from relaxcert.interop.vnnlib.manifest import Manifest, files_of
from relaxcert.interop.vnnlib.writer import Version
from relaxcert.report.verdicts import to_json
from relaxcert.spec.catalogue import load_property


def export(
    model: Annotated[Path, typer.Argument(help="A model file that relaxcert wrote.")],
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
    prop: Annotated[
        str | None,
        typer.Option(
            "--property", help="A property of the catalogue or a .toml, instead of the model's own."
        ),
    ] = None,
    points: Annotated[
        int | None, typer.Option(min=1, help="Export the first so many points only.")
    ] = None,
    scale: Annotated[
        float, typer.Option(min=1e-30, help="Divide the file's numbers by this, e.g. 255.")
    ] = 1.0,
    json: Json = False,
) -> None:
    """Export a model's property at points as VNN-LIB, for other verifiers.

    A file states the violation: UNSAT means robust. A uniform property is a set of files, robust if
    any is UNSAT; manifest.json says which.

    Example: [bold]relaxcert export relaxcert-demo/landsat-rt3.safetensors --vnnlib queries
    --data landsat:test --points 10[/bold]
    """
    if vnnlib is None:
        raise InvalidInput("nothing to export: give --vnnlib DIR.")
    if data is None:
        raise InvalidInput("--vnnlib needs --data: a file of points, or landsat:test.")
    if not math.isfinite(scale):
        raise InvalidInput(f"--scale {scale} must be finite: give what to divide by, e.g. 255.")
    loaded = load_model(model)
    net = loaded.net if prop is None else GloRoNet(loaded.net.backbone, load_property(prop)).eval()
    inputs, _ = load_points(data, net)
    chosen = inputs[:points] / scale if scale != 1.0 else inputs[:points]
    manifest = export_vnnlib(
        net, chosen, vnnlib, version=_version(vnnlib_version), class_names=loaded.class_names
    )
    if json:
        typer.echo(to_json(_summary(manifest, vnnlib), indent=2))
    else:
        _show(net, manifest, vnnlib)


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
    if summary["boxes_around_balls"]:
        screen.print(
            "the inputs are boxes around balls: UNSAT carries over, SAT only if the point found "
            "lies in the ball"
        )
