"""``relaxcert crosscheck``: an exact solver judges the certificates of a saved model."""

from __future__ import annotations

import json as jsonlib
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from relaxcert.cli.common import Json, console, load_points, property_in_words, table
from relaxcert.cli.interrupts import resumable, this_command
from relaxcert.errors import InvalidInput
from relaxcert.files import write_text
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import load_model
from relaxcert.lipschitz.verified import fingerprint
from relaxcert.smt.crosscheck import CrossCheck, crosscheck
from relaxcert.smt.query import Budget
from relaxcert.smt.translate import exact_network
from relaxcert.smt.witness import load_witness, save_witness, witness_of
from relaxcert.spec.catalogue import load_property
from relaxcert.spec.property import Property
from relaxcert.spec.verdict import Answer
from relaxcert.training.progress import bar

RESULTS, SUMMARY = "crosscheck.jsonl", "crosscheck.json"


class Unsound(Exception):
    """A certified point at which the property fails, or a judge at fault: exit status 3."""


def crosscheck_command(
    model: Annotated[Path, typer.Argument(help="A model file that relaxcert wrote.")],
    data: Annotated[
        str | None,
        typer.Option(help="A .npz (x, optionally y), .npy or .csv file, or landsat:test."),
    ] = None,
    prop: Annotated[
        str | None,
        typer.Option("--property", help="A property by name or file; default: the model's own."),
    ] = None,
    points: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    scale: Annotated[
        float, typer.Option(min=1e-30, help="Divide the file's numbers by this, e.g. 255.")
    ] = 1.0,
    at_radius: Annotated[
        bool, typer.Option("--at-radius", help="Judge each point at its certified radius.")
    ] = False,
    budget: Annotated[str, typer.Option(help="For each point, such as 10s or 500ms.")] = "10s",
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes on this machine.")] = 1,
    solver: Annotated[str, typer.Option(help="The solver to ask.")] = "z3",
    scheduler: Annotated[
        str | None, typer.Option(help="A dask scheduler's address instead of --jobs.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results and witnesses; resumed if it exists.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Only evaluate this witness (.npz) again, exactly.")
    ] = None,
    json: Json = False,
) -> None:
    """Let an exact solver judge the certificates: is any certified point falsified?

    The solver works on the exact weights and uses none of the Lipschitz bounds. Exit status 3: a
    certified point fails, or the judge itself is at fault; the witness is written to --out.

    Example: [bold]relaxcert crosscheck net.safetensors --data points.npz --points 200 --budget 10s
    --jobs 2 --out crosscheck[/bold]
    """
    net = load_model(model).net
    if replay is not None:
        _replay(net, model, replay, json)
        return
    if data is None:
        raise InvalidInput("--data is missing: give the points to check, or --replay a witness.")
    Budget.of(budget)
    inputs = load_points(data, net)[0][:points]
    chosen = None if prop is None else load_property(prop)
    scaled = inputs / scale if scale != 1.0 else inputs
    found = _checked(net, scaled, chosen, budget, jobs, solver,
                     scheduler, out, at_radius=at_radius)  # fmt: skip
    summary = {"model": str(model), "data": data, **found.summary()}
    if out is not None:
        write_text(out / SUMMARY, jsonlib.dumps(summary, indent=2) + "\n")
    if json:
        typer.echo(jsonlib.dumps(summary, indent=2))
    else:
        _show(net.prop if chosen is None else chosen, found, out)
    _refuse_unsound(net, model, scaled, chosen, found, out)


def _checked(
    net: GloRoNet,
    inputs: Tensor,
    prop: Property | None,
    budget: str,
    jobs: int,
    solver: str,
    scheduler: str | None,
    out: Path | None,
    *,
    at_radius: bool,
) -> CrossCheck:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    how = partial(_how_to_go_on, out)
    with resumable(how), bar() as progress:
        task = progress.add_task("cross-checking", total=len(inputs))
        return crosscheck(
            net,
            inputs,
            prop,
            at_radius=at_radius,
            solver=solver,
            budget=budget,
            jobs=jobs,
            scheduler=scheduler,
            records=None if out is None else out / RESULTS,
            on_records=lambda done: progress.advance(task, done),
        )


def _how_to_go_on(out: Path | None) -> str:
    if out is None:
        return f"without --out no result is kept; start again with: {this_command()}"
    return f"the results so far are in {out / RESULTS}; go on with: {this_command()}"


def _refuse_unsound(
    net: GloRoNet,
    model: Path,
    inputs: Tensor,
    prop: Property | None,
    found: CrossCheck,
    out: Path | None,
) -> None:
    folder = Path() if out is None else out
    for record in found.violations:
        point = tuple(map(Fraction, inputs[record["index"]].double().flatten().tolist()))
        judged = net.prop if prop is None else prop
        if record["eps"] is not None:
            judged = judged.with_eps(record["eps"])
        witness = witness_of(record, point, judged, fingerprint(net.backbone))
        path = save_witness(folder / f"witness-{record['index']}.npz", witness)
        console().print(
            f"point {record['index']} is certified, and the property fails near it; replay with\n"
            f"  relaxcert crosscheck {model} --replay {path}",
            markup=False,
            soft_wrap=True,
        )
    if found.violations:
        raise Unsound(f"{len(found.violations)} certified points are falsified, by exact witnesses")
    if found.faults:
        raise Unsound(f"the judge is at fault at {len(found.faults)} points: {_first_fault(found)}")


def _first_fault(found: CrossCheck) -> str:
    return str(found.faults[0]["fault"])


def _replay(net: GloRoNet, model: Path, path: Path, json: bool) -> None:
    witness = load_witness(path)
    if witness.weights != fingerprint(net.backbone):
        raise InvalidInput(f"{path} is about other weights than those of {model}.")
    network = exact_network(net.backbone, (len(witness.point),))
    judgement = witness.replay(network)
    confirmed = judgement.verdict.answer is Answer.FALSIFIED
    shown = {
        "property": repr(witness.prop),
        "confirmed": confirmed,
        "logits_at_x": [float(value) for value in judgement.logits],
        "logits_at_witnesses": [[float(v) for v in e.logits] for e in judgement.evidence],
    }
    if json:
        typer.echo(jsonlib.dumps(shown, indent=2))
    else:
        for name, value in shown.items():
            console().print(f"{name}: {value}", markup=False, soft_wrap=True)
    if confirmed:
        raise Unsound(f"the property fails at the witness in {path}, in exact arithmetic")


def _show(prop: Property, found: CrossCheck, out: Path | None) -> None:
    screen = console()
    summary = found.summary()
    screen.print(property_in_words(prop), markup=False, soft_wrap=True)
    rows = [
        ["certified by head and solver", str(summary["both_certify"])],
        ["certified by the head, falsified (unsound)", str(summary["violations"])],
        ["rejected, holds: the bound is too loose", str(summary["rejected_but_holds"])],
        ["rejected, fails: with a witness", str(summary["rejected_and_fails"])],
        ["no answer within the budget", str(summary["unknown"])],
        ["the judge at fault", str(summary["faults"])],
    ]
    screen.print(
        table(f"{summary['points']} points, solver {summary['solver']}", ("", "points"), rows)
    )
    if summary["median_seconds"] is not None:
        screen.print(
            f"{summary['median_seconds']:.4f} s a point (median, CPU), at most "
            f"{summary['most_seconds']:.2f} s"
        )
    if out is not None:
        screen.print(f"results in {out / RESULTS}", markup=False)
