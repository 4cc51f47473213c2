"""``relaxcert data``: make labelled samples, as .npz files that the other commands read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn

from relaxcert.cli.common import Json, Seed, console, table
from relaxcert.cli.images import check
from relaxcert.data.acasxu import (
    MAXIMUM,
    MEAN,
    MINIMUM,
    RANGE,
    acasxu,
    closest_pair,
    labeller_of,
)
from relaxcert.data.files import read_points
from relaxcert.data.hcas import CLASS_NAMES, hcas
from relaxcert.data.landsat import Split
from relaxcert.errors import InvalidInput
from relaxcert.files import write_atomically
from relaxcert.interop import read_nnet, read_onnx
from relaxcert.interop.nnet import NNet
from relaxcert.report.verdicts import to_json

app = typer.Typer(
    help="Make labelled samples (ACAS Xu from a network, HCAS from scratch); check image sets.\n\n"
    "Example: [bold]relaxcert data hcas --out hcas[/bold]"
)
app.command("check")(check)

Out = Annotated[
    Path, typer.Option(help="Folder for train, validation, test and uniform .npz (x, y).")
]
Train = Annotated[int, typer.Option("--train", min=5, help="Points of the train part.")]
Validation = Annotated[int, typer.Option("--validation", min=5, help="Of the validation part.")]
Test = Annotated[int, typer.Option("--test", min=5, help="Of the test and the uniform part.")]


@app.command("acasxu")
def acasxu_command(
    network: Annotated[Path, typer.Argument(help="An ACAS Xu network, .nnet or .onnx.")],
    out: Out,
    points: Annotated[
        Path | None,
        typer.Option(
            help="Label these encounters instead of a sample: rho (feet), theta, psi (radians), "
            "v_own, v_int (feet/s); .csv, .npy or .npz. Written to points.npz, normalised."
        ),
    ] = None,
    train: Train = 50_000,
    validation: Validation = 10_000,
    test: Test = 20_000,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Label random encounters by a public ACAS Xu network, equally many of each advisory.

    A reconstruction of the data of Leino and Fredrikson 2021, Appendix D, who state neither network
    nor distribution nor size. The uniform part is not balanced. Inputs are normalised as the
    network's file says; labels are the advisories, clear of conflict, weak left, weak right,
    strong left, strong right.

    Example: [bold]relaxcert data acasxu ACASXU_run2a_1_1_batch_2000.nnet --out acasxu[/bold]
    """
    read = _read(network)
    if points is not None:
        target = _label_points(read, points, out)
        if json:
            typer.echo(to_json({"points": str(target)}, indent=2))
        else:
            console().print(f"written to {target}", markup=False)
        return
    sizes = (train, validation, test)
    parts = acasxu(read.network, identity=_identity(read.network), sizes=sizes, seed=seed)
    _write(parts, out, json=json)


@app.command("hcas")
def hcas_command(
    out: Out,
    speeds: Annotated[
        int, typer.Option(help="1: both aircraft at 200 feet/s, three inputs; 3: five inputs.")
    ] = 3,
    angles: Annotated[
        int | None, typer.Option(min=9, help="Grid points of the angles. Default: 41, or 31 for 3.")
    ] = None,
    previous: Annotated[
        int, typer.Option(min=0, max=4, help="Previous advisory: 0 COC, 1 WL, 2 WR, 3 SL, 4 SR.")
    ] = 0,
    train: Train = 50_000,
    validation: Validation = 10_000,
    test: Test = 20_000,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Solve the HorizontalCAS decision process and sample its advisories; no download.

    The first time takes seconds; the table is then kept in the cache (RELAXCERT_CACHE).

    Example: [bold]relaxcert data hcas --out hcas[/bold]
    """
    sizes = (train, validation, test)
    parts = hcas(speeds=speeds, angles=angles, previous=previous, sizes=sizes, seed=seed)
    _write(parts, out, json=json)


def _read(path: Path) -> NNet:
    """A network whose smallest score is the advice, as float64; ONNX files state no region."""
    if path.suffix.lower() != ".onnx":
        return read_nnet(path)
    network = nn.Sequential(read_onnx(path, best="min").network).double()
    minimum, maximum, mean, scale = (
        torch.tensor(numbers, dtype=torch.float64) for numbers in (MINIMUM, MAXIMUM, MEAN, RANGE)
    )
    return NNet(network, "normalised", "min", minimum, maximum, mean, scale, 0.0, 1.0)


def _identity(network: nn.Module) -> str:
    """SHA-256 of layers and weights, wherever they were stored."""
    digest = hashlib.sha256(repr(network).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _label_points(read: NNet, points: Path, out: Path) -> Path:
    inputs, _ = read_points(points, features=5)
    physical = inputs.flatten(1)
    read.warn_if_outside(physical)
    normalised = read.normalise(physical)
    labels = labeller_of(read.network)(normalised.numpy())
    return _write_part(out / "points.npz", normalised, torch.from_numpy(labels))


def _write(parts: dict[str, Split], out: Path, *, json: bool) -> None:
    for name, split in parts.items():
        _write_part(out / f"{name}.npz", split.inputs, split.labels)
    counts = {
        name: split.labels.bincount(minlength=len(CLASS_NAMES)).tolist()
        for name, split in parts.items()
    }
    closest = closest_pair(parts["test"].inputs, parts["test"].labels)
    if json:
        summary = {"out": str(out), "class_names": CLASS_NAMES, "counts": counts}
        typer.echo(to_json({**summary, "closest_pair_in_test": closest}, indent=2))
        return
    rows = [
        [name, *map(str, found), f"{max(found) / sum(found):.3f}"] for name, found in counts.items()
    ]
    columns = ("part", *CLASS_NAMES, "largest share")
    console().print(table(f"written to {out}", columns, rows))
    console().print(f"closest differently-labelled pair in test: {closest:.4f} (l2, normalised)")


def _write_part(path: Path, inputs: Tensor, labels: Tensor) -> Path:
    if len(inputs) == 0:
        raise InvalidInput("there are no points to write.")
    return write_atomically(path, lambda name: np.savez(name, x=inputs.numpy(), y=labels.numpy()))
