"""``relaxcert certify``: certify points with a saved model."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from relaxcert.attacks import attack
from relaxcert.cli.common import (
    UNSOUND,
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
from relaxcert.cli.in_blocks import certified_in_blocks, check_folder
from relaxcert.cli.interrupts import this_command
from relaxcert.errors import InvalidInput
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import Model
from relaxcert.metrics import clean_accuracy_name
from relaxcert.proofs import check_provable, write_proof
from relaxcert.report.blocks import Work, remove_parts
from relaxcert.report.provenance import made_from
from relaxcert.report.verdicts import summary_of, to_json, write_verdicts
from relaxcert.training.evaluation import Figures, figures_of
from relaxcert.training.progress import bar
from relaxcert.training.ranks import joined, launched

BLOCK = 1024


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
    batch_size: Annotated[int, typer.Option(min=1, help="Points a block.")] = BLOCK,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads a process; default: as torch has it.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the blocks that a broken run left in --out.")
    ] = False,
    deployed: Annotated[
        str | None,
        typer.Option(help="float32 or float64: level D, for what is computed in that format."),
    ] = None,
    attacked: Annotated[
        bool,
        typer.Option(
            "--attack",
            help="Also attack each point (slow): the VRA gets an upper bound; status 3 if a "
            "certified point breaks.",
        ),
    ] = False,
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

    On several processes or GPUs, with the same verdicts bit for bit: [bold]torchrun
    --nproc-per-node 2 -m relaxcert certify model.safetensors --data points.npz
    --out verdicts[/bold]
    """
    _check_numbers(scale, require_vra)
    _check_deployed(deployed, attacked=attacked, proof=proof is not None)
    check_folder(out, resume=resume)
    if threads is not None:
        torch.set_num_threads(threads)
    with joined(device) as own_device:
        loaded = load_net(model, prop, best, own_device)
        if proof is not None:
            check_provable(loaded.net.backbone)
        inputs, labels = _points(data, scale, loaded)
        if require_vra is not None and labels is None:
            raise InvalidInput("--require-vra needs labels: give a .npz file with x and y.")
        started = time.perf_counter()
        prove(loaded.net, tuple(inputs.shape[1:]))
        work = Work(loaded.net, inputs, batch_size, deployed)
        certificates = certified_in_blocks(work, out, resume=resume)
    if certificates is None:
        return  # another rank goes on
    seconds = time.perf_counter() - started
    found = _attack(loaded.net, inputs, labels) if attacked else _Attacked()
    figures = None if labels is None else figures_of(certificates, labels, found.may_count)
    summary = summary_of(
        certificates,
        figures,
        bounds=loaded.net.lipschitz.table(),
        class_names=loaded.class_names,
        labels=labels,
        **made_from(inputs, command=this_command(), model=model, notes=loaded.notes),
        model=str(model),
        data=data,
        scale=scale,
        seconds=seconds,
        **found.counts(certificates),
        batch_size=batch_size,
        processes=launched().count,
    )
    if out is not None:
        write_verdicts(out, certificates, labels, summary)
        remove_parts(out)
    if proof is not None:
        write_proof(loaded.net, inputs, certificates, proof)
    if json:
        typer.echo(to_json(summary, indent=2))
    else:
        _show(model, certificates, figures, seconds, out)
        _show_attack(summary, figures)
    if summary.get("attack", {}).get("certified_and_broken"):
        raise typer.Exit(UNSOUND)
    if require_vra is not None and figures is not None and figures.vra < require_vra:
        raise NotMet(f"VRA {figures.vra:.4f} is below the required {require_vra:.4f}")


def _check_numbers(scale: float, require_vra: float | None) -> None:
    # Ranges let "nan" pass, which is below and above nothing.
    if not math.isfinite(scale):
        raise InvalidInput(f"--scale {scale} must be finite: give what to divide by, e.g. 255.")
    if require_vra is not None and math.isnan(require_vra):
        raise InvalidInput("--require-vra nan asks for nothing: give a share from 0 to 1.")


def _check_deployed(deployed: str | None, *, attacked: bool, proof: bool) -> None:
    if deployed is not None and attacked:
        raise InvalidInput("--attack breaks the real function, not --deployed: leave one out.")
    if deployed is not None and proof:
        raise InvalidInput("--proof is written for level R: leave --deployed out, or --proof.")


def _points(data: str, scale: float, loaded: Model) -> tuple[Tensor, Tensor | None]:
    inputs, labels = load_points(data, loaded.net)
    if len(inputs) == 0:
        raise InvalidInput(f"--data {data} holds no points: there is nothing to certify.")
    inputs = inputs / scale if scale != 1.0 else inputs
    if loaded.warn_of_inputs is not None:
        loaded.warn_of_inputs(inputs)
    return inputs, labels


@dataclass(frozen=True)
class _Attacked:
    """Which points an attack broke, and which may still count, (points,) bool; None: no attack."""

    broken: Tensor | None = None
    may_count: Tensor | None = None

    def counts(self, certificates: Certificates) -> dict[str, dict[str, int]]:
        """For the summary."""
        if self.broken is None:
            return {}
        certified = certificates.certified.cpu()
        counts = {
            "broken": int(self.broken.sum()),
            "open": int((~self.broken & ~certified).sum()),
            "certified_and_broken": int((self.broken & certified).sum()),
        }
        return {"attack": counts}


def _attack(net: GloRoNet, inputs: Tensor, labels: Tensor | None) -> _Attacked:
    target = next(net.backbone.parameters(), torch.empty(0)).device
    broken: list[Tensor] = []
    may_count: list[Tensor] = []
    with bar() as progress:
        task = progress.add_task("attacking", total=len(inputs))
        for start in range(0, len(inputs), 256):
            part = slice(start, start + 256)
            found = attack(net, inputs[part].to(target), seed=start)
            broken.append(found.falsified.cpu())
            if labels is not None:
                may_count.append(found.may_count(labels[part]).cpu())
            progress.advance(task, len(inputs[part]))
    return _Attacked(torch.cat(broken), torch.cat(may_count) if may_count else None)


def _show_attack(summary: dict[str, Any], figures: Figures | None) -> None:
    counts = summary.get("attack")
    if counts is None:
        return
    screen = console()
    screen.print(f"margin PGD breaks {counts['broken']} points, {counts['open']} stay open")
    if figures is not None and figures.vra_upper_bound is not None:
        screen.print(
            f"VRA {figures.vra:.4f} <= true robust accuracy <= {figures.vra_upper_bound:.4f}"
        )
    if counts["certified_and_broken"]:
        screen.print(
            f"SOUNDNESS VIOLATION: {counts['certified_and_broken']} certified points are broken; "
            "please report it"
        )


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
