"""``relaxcert certify``: certify points with a saved model."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from relaxcert.cli.common import (
    BestOption,
    Device,
    Json,
    ModelPath,
    NotMet,
    PropertyOption,
    console,
    figure_cells,
    load_net,
    load_points,
    property_in_words,
    prove,
    table,
)
from relaxcert.errors import InvalidInput
from relaxcert.heads.certificates import Certificates, concatenate
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.metrics import clean_accuracy_name
from relaxcert.proofs import check_provable, write_proof
from relaxcert.report.verdicts import summary_of, to_json, write_verdicts
from relaxcert.training.evaluation import Figures, figures_of
from relaxcert.training.progress import bar


def certify(
    model: ModelPath,
    data: Annotated[
        str,
        typer.Option(help="A .npz (x, optionally y), .npy or .csv file, or landsat:test."),
    ],
    scale: Annotated[
        float, typer.Option(min=1e-30, help="Divide the file's numbers by this, e.g. 255.")
    ] = 1.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for verdicts.jsonl and summary.json.")
    ] = None,
    proof: Annotated[
        Path | None,
        typer.Option(help="File of certificates with witnesses, for relaxcert check."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Points at a time.")] = 4096,
    deployed: Annotated[
        str | None,
        typer.Option(help="float32 or float64: level D, for what is computed in that format."),
    ] = None,
    require_vra: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit with status 1 if the VRA is below this."),
    ] = None,
    prop: PropertyOption = None,
    best: BestOption = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Certify points (level R, or D with --deployed): a table, a verdict a point, a summary.

    The Lipschitz bounds are proved anew from the weights; none is read from the file.

    Example: [bold]relaxcert certify relaxcert-demo/landsat-rt3.safetensors --data landsat:test
    --out verdicts[/bold]

    Example: [bold]relaxcert certify acasxu.nnet --property acasxu/adjacent-advisories
    --data points.npz[/bold] (normalised points, five numbers each)
    """
    # Ranges let "nan" pass, which is below and above nothing.
    if not math.isfinite(scale):
        raise InvalidInput(f"--scale {scale} must be finite: give what to divide by, e.g. 255.")
    if require_vra is not None and math.isnan(require_vra):
        raise InvalidInput("--require-vra nan asks for nothing: give a share from 0 to 1.")
    loaded = load_net(model, prop, best, device)
    if proof is not None:
        check_provable(loaded.net.backbone)
    inputs, labels = load_points(data, loaded.net)
    if len(inputs) == 0:
        raise InvalidInput(f"--data {data} holds no points: there is nothing to certify.")
    if require_vra is not None and labels is None:
        raise InvalidInput("--require-vra needs labels: give a .npz file with x and y.")
    started = time.perf_counter()
    inputs = inputs / scale if scale != 1.0 else inputs
    prove(loaded.net, tuple(inputs.shape[1:]))
    certificates = _stream(loaded.net, inputs, batch_size, deployed)
    seconds = time.perf_counter() - started
    figures = None if labels is None else figures_of(certificates, labels)
    summary = summary_of(
        certificates,
        figures,
        bounds=loaded.net.lipschitz.table(),
        class_names=loaded.class_names,
        model=str(model),
        data=data,
        scale=scale,
        seconds=seconds,
    )
    if out is not None:
        write_verdicts(out, certificates, labels, summary)
    if proof is not None:
        write_proof(loaded.net, inputs, certificates, proof)
    if json:
        typer.echo(to_json(summary, indent=2))
    else:
        _show(model, certificates, figures, seconds, out)
    if require_vra is not None and figures is not None and figures.vra < require_vra:
        raise NotMet(f"VRA {figures.vra:.4f} is below the required {require_vra:.4f}")


def _stream(net: GloRoNet, inputs: Tensor, batch_size: int, deployed: str | None) -> Certificates:
    target = next(net.backbone.parameters(), torch.empty(0)).device
    batches: list[Certificates] = []
    with bar() as progress:
        task = progress.add_task("certifying", total=len(inputs))
        for chosen in inputs.split(batch_size):
            batches.append(net.certify(chosen.to(target), deployed=deployed))
            progress.advance(task, len(chosen))
    return concatenate(batches)


def _show(
    model: Path,
    certificates: Certificates,
    figures: Figures | None,
    seconds: float,
    out: Path | None,
) -> None:
    screen = console()
    screen.print(
        f"{property_in_words(certificates.prop)}\nsha256 {certificates.digest}",
        markup=False,
        soft_wrap=True,
    )
    points = len(certificates)
    certified = int(certificates.certified.sum())
    rows = [[str(points), str(certified), *(_cells(certificates, figures))]]
    clean = clean_accuracy_name(certificates.prop)
    columns = ("points", "certified", "VRA", "rejection rate", clean, "top-1 accuracy")
    screen.print(table(f"{model}: level {certificates.level}", columns, rows))
    for k in sorted(set(certificates.k[certificates.certified].tolist())):
        count = int((certificates.certified & (certificates.k == k)).sum())
        screen.print(f"  {count} points with a set of {k}" if k else f"  {count} without a set")
    screen.print(f"{seconds:.2f} s, {seconds / max(points, 1) * 1e6:.0f} us a point")
    if out is not None:
        screen.print(f"verdicts and summary in {out}", markup=False)


def _cells(certificates: Certificates, figures: Figures | None) -> list[str]:
    if figures is not None:
        return figure_cells(figures)
    rejected = float((~certificates.certified).double().mean())
    return ["no labels", f"{rejected:.3f}", "no labels", "no labels"]
