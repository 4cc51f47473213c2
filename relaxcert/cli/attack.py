"""``relaxcert attack``: search for points at which a property fails."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from relaxcert.attacks import AttackResult, attack
from relaxcert.cli.common import (
    UNSOUND,
    BestOption,
    Json,
    ModelPath,
    PropertyOption,
    Seed,
    console,
    load_net,
    load_points,
    property_in_words,
    prove,
    table,
)
from relaxcert.errors import InvalidInput
from relaxcert.files import write_atomically, write_text
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.metrics import AttackedRobustAccuracy, VerifiedRobustAccuracy
from relaxcert.report.verdicts import to_json
from relaxcert.training.progress import bar


@dataclass(frozen=True)
class _Batch:
    certificates: Certificates
    result: AttackResult
    labels: Tensor | None


def attack_command(
    model: ModelPath,
    data: Annotated[
        str,
        typer.Option(help="A .npz (x, optionally y), .npy or .csv file, or landsat:test."),
    ],
    prop: PropertyOption = None,
    best: BestOption = None,
    points: Annotated[
        int | None, typer.Option(min=1, help="Attack the first so many points only.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps a restart.")] = 40,
    restarts: Annotated[int, typer.Option(min=1, help="Restarts a target.")] = 3,
    scale: Annotated[
        float, typer.Option(min=1e-30, help="Divide the file's numbers by this, e.g. 255.")
    ] = 1.0,
    out: Annotated[
        Path | None, typer.Option(help="A .npz for the witnesses of the broken points.")
    ] = None,
    summary_out: Annotated[
        Path | None, typer.Option("--summary", help="A .json for the counts, which a report shows.")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Attack the property at each point by margin PGD; what is found is proved.

    Says how many points are certified, broken or open, and between which bounds the true robust
    accuracy lies. Exit status 3 if a certified point is broken, which must never happen.

    Example: [bold]relaxcert attack relaxcert-demo/landsat-rt3.safetensors --data landsat:test
    --points 200 --out witnesses.npz[/bold]
    """
    if not math.isfinite(scale):
        raise InvalidInput(f"--scale {scale} must be finite: give what to divide by, e.g. 255.")
    if out is not None and out.suffix != ".npz":
        raise InvalidInput(f"--out {out} must end in .npz: it holds arrays.")
    net = load_net(model, prop, best).net
    inputs, labels = load_points(data, net)
    inputs = inputs[:points] / scale if scale != 1.0 else inputs[:points]
    labels = None if labels is None else labels[:points]
    started = time.perf_counter()
    batches = _attacked(net, inputs, labels, steps=steps, restarts=restarts, seed=seed)
    summary = _summary(net, batches, time.perf_counter() - started)
    if out is not None:
        _write(out, batches)
    if summary_out is not None:
        write_text(summary_out, to_json(summary, indent=2) + "\n")
    if json:
        typer.echo(to_json(summary, indent=2))
    else:
        _show(net, summary, out)
    if summary["certified_and_broken"]:
        raise typer.Exit(UNSOUND)


def _attacked(
    net: GloRoNet, inputs: Tensor, labels: Tensor | None, *, steps: int, restarts: int, seed: int
) -> list[_Batch]:
    batches: list[_Batch] = []
    prove(net, tuple(inputs.shape[1:]))
    with bar() as progress:
        task = progress.add_task("attacking", total=len(inputs))
        for start in range(0, len(inputs), 256):
            part = slice(start, start + 256)
            result = attack(net, inputs[part], steps=steps, restarts=restarts, seed=seed + start)
            known = None if labels is None else labels[part]
            batches.append(_Batch(net.certify(inputs[part]), result, known))
            progress.advance(task, len(inputs[part]))
    return batches


def _summary(net: GloRoNet, batches: list[_Batch], seconds: float) -> dict[str, Any]:
    certified = torch.cat([batch.certificates.certified for batch in batches])
    broken = torch.cat([batch.result.falsified for batch in batches])
    return {
        "digest": net.digest,
        "weights_sha256": net.verify().fingerprint,
        "points": len(certified),
        "certified": int(certified.sum()),
        "broken": int(broken.sum()),
        "open": int((~certified & ~broken).sum()),
        "certified_and_broken": int((certified & broken).sum()),
        **_accuracies(batches),
        "seconds": seconds,
    }


def _accuracies(batches: list[_Batch]) -> dict[str, float]:
    lower, upper = VerifiedRobustAccuracy(), AttackedRobustAccuracy()
    for batch in batches:
        if batch.labels is None:
            return {}
        lower.update(batch.certificates, batch.labels)
        upper.update(batch.result.may_count(batch.labels))
    return {"vra": float(lower.compute()), "vra_upper_bound": float(upper.compute())}


def _write(path: Path, batches: list[_Batch]) -> None:
    """Index, x' a target, and which targets are broken, of the broken points."""
    broken = torch.cat([batch.result.falsified for batch in batches])
    witnesses = torch.cat([batch.result.witnesses for batch in batches])[broken]
    targets = torch.cat([batch.result.broken for batch in batches])[broken]
    index = broken.nonzero()[:, 0]

    def save(name: Path) -> None:
        with name.open("wb") as file:
            np.savez(file, index=index.numpy(), witnesses=witnesses.numpy(), broken=targets.numpy())

    write_atomically(path, save)


def _show(net: GloRoNet, summary: dict[str, Any], out: Path | None) -> None:
    screen = console()
    screen.print(f"{property_in_words(net.prop)}\nsha256 {net.digest}", markup=False)
    columns = ("points", "certified", "broken", "open", "certified and broken")
    keys = ("points", "certified", "broken", "open", "certified_and_broken")
    cells = [str(summary[key]) for key in keys]
    screen.print(table("Margin PGD; every break is proved", columns, [cells]))
    if "vra" in summary:
        screen.print(
            f"VRA {summary['vra']:.4f} <= true robust accuracy <= {summary['vra_upper_bound']:.4f}"
        )
    screen.print(f"{summary['seconds']:.1f} s")
    if out is not None:
        screen.print(f"witnesses written to {out}", markup=False)
    if summary["certified_and_broken"]:
        screen.print("SOUNDNESS VIOLATION: a certified point is broken; please report it")
