"""``relaxcert crosscheck``: an exact solver judges the certificates of a saved model."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import Tensor

from relaxcert.cli.common import (
    BestOption,
    Json,
    ModelPath,
    console,
    load_net,
    load_points,
    property_in_words,
    table,
)
from relaxcert.cli.exactness import Wanted, report_radii
from relaxcert.cli.interrupts import resumable, this_command
from relaxcert.errors import InvalidInput
from relaxcert.files import write_text
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.verified import fingerprint
from relaxcert.smt.crosscheck import CrossCheck, crosscheck_all
from relaxcert.smt.query import Budget
from relaxcert.smt.translate import exact_network
from relaxcert.smt.witness import load_witness, save_witness, witness_of
from relaxcert.spec.catalogue import load_document
from relaxcert.spec.property import Property
from relaxcert.spec.verdict import Answer
from relaxcert.training.progress import bar

RESULTS, SUMMARY = "crosscheck.jsonl", "crosscheck.json"


class Unsound(Exception):
    """A certified point at which the property fails, or a judge at fault: exit status 3."""


def crosscheck_command(
    model: ModelPath,
    data: Annotated[
        str | None,
        typer.Option(help="A .npz (x, optionally y), .npy or .csv file, or landsat:test."),
    ] = None,
    prop: Annotated[
        list[str] | None,
        typer.Option(
            "--property",
            help="A property by name or file, or several: what is learnt at a point serves all. "
            "Default: the model's own.",
        ),
    ] = None,
    best: BestOption = None,
    points: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    scale: Annotated[
        float, typer.Option(min=1e-30, help="Divide the file's numbers by this, e.g. 255.")
    ] = 1.0,
    at_radius: Annotated[
        bool, typer.Option("--at-radius", help="Judge each point at its certified radius.")
    ] = False,
    radii: Annotated[
        bool,
        typer.Option("--radii", help="Enclose exact radii by bisection; certified ones beside."),
    ] = False,
    tolerance: Annotated[
        float, typer.Option(help="Relative width of the exact radii, for --radii.")
    ] = 1e-3,
    constants: Annotated[
        int,
        typer.Option(
            min=0,
            help="With --radii: around so many points, the bounds of logit differences against "
            "exact local constants (small networks).",
        ),
    ] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="With --radii: a .png or .svg, one dot a point.")
    ] = None,
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

    Example: [bold]relaxcert crosscheck net.safetensors --data points.npz --points 50 --radii
    --plot radii.png --out crosscheck[/bold] (certified against exact radius)
    """
    documents = [load_document(name) for name in prop or []]
    net = load_net(model, prop[0] if prop else None, best).net
    for document in documents:
        document.check_classes(net.num_classes)
    chosen = [document.to_property() for document in documents]
    if replay is not None:
        _replay(net, model, replay, json)
        return
    if data is None:
        raise InvalidInput("--data is missing: give the points to check, or --replay a witness.")
    Budget.of(budget)
    inputs = load_points(data, net)[0][:points]
    scaled = inputs / scale if scale != 1.0 else inputs
    if radii:
        if len(chosen) > 1 or at_radius or scheduler is not None:
            raise InvalidInput("--radii goes with one --property, no --at-radius, no --scheduler.")
        wanted = Wanted(tolerance, budget, solver, jobs, constants, plot, out)
        _measure_radii(net, scaled, wanted, json=json)
        return
    if plot is not None or constants:
        raise InvalidInput("--plot and --constants belong to --radii: add it.")
    run = Run(budget, jobs, solver, scheduler, out, at_radius)
    _judge_points(net, model, data, scaled, chosen or [net.prop], run, json=json)


@dataclass(frozen=True)
class Run:
    """How the points are judged: the options of that name."""

    budget: str
    jobs: int
    solver: str
    scheduler: str | None
    out: Path | None
    at_radius: bool


def _measure_radii(net: GloRoNet, inputs: Tensor, wanted: Wanted, *, json: bool) -> None:
    wrong = report_radii(net, inputs, wanted, json=json)
    if wrong:
        raise Unsound(f"{wrong} certified radii or bounds are contradicted by exact ones")


def _judge_points(
    net: GloRoNet,
    model: Path,
    data: str,
    inputs: Tensor,
    props: Sequence[Property],
    run: Run,
    *,
    json: bool,
) -> None:
    found = _checked(net, inputs, props, run)
    summary = _summary(model, data, found)
    if run.out is not None:
        write_text(run.out / SUMMARY, jsonlib.dumps(summary, indent=2) + "\n")
    if json:
        typer.echo(jsonlib.dumps(summary, indent=2))
    else:
        for judged, one in zip(props, found, strict=True):
            _show(judged, one)
        if run.out is not None:
            console().print(f"results in {run.out / RESULTS}", markup=False)
    _refuse_unsound(net, model, inputs, props, found, run.out)


def _summary(model: Path, data: str, found: Sequence[CrossCheck]) -> dict[str, Any]:
    """One property: its summary; several: the summaries of all."""
    head = {"model": str(model), "data": data}
    if len(found) == 1:
        return {**head, **found[0].summary()}
    return {**head, "properties": [one.summary() for one in found]}


def _checked(
    net: GloRoNet, inputs: Tensor, props: Sequence[Property], run: Run
) -> tuple[CrossCheck, ...]:
    if run.out is not None:
        run.out.mkdir(parents=True, exist_ok=True)
    how = partial(_how_to_go_on, run.out)
    with resumable(how), bar() as progress:
        task = progress.add_task("cross-checking", total=len(inputs))
        return crosscheck_all(
            net,
            inputs,
            props,
            at_radius=run.at_radius,
            solver=run.solver,
            budget=run.budget,
            jobs=run.jobs,
            scheduler=run.scheduler,
            records=None if run.out is None else run.out / RESULTS,
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
    props: Sequence[Property],
    found: Sequence[CrossCheck],
    out: Path | None,
) -> None:
    folder = Path() if out is None else out
    for place, (prop, one) in enumerate(zip(props, found, strict=True)):
        suffix = f"-{place}" if len(props) > 1 else ""
        for record in one.violations:
            point = tuple(map(Fraction, inputs[record["index"]].double().flatten().tolist()))
            judged = prop if record["eps"] is None else prop.with_eps(record["eps"])
            shape = tuple(inputs.shape[1:])
            witness = witness_of(record, point, judged, fingerprint(net.backbone), shape)
            path = save_witness(folder / f"witness-{record['index']}{suffix}.npz", witness)
            console().print(
                f"point {record['index']} is certified, and the property fails near it; replay "
                f"with\n  relaxcert crosscheck {model} --replay {path}",
                markup=False,
                soft_wrap=True,
            )
    violations = [record for one in found for record in one.violations]
    faults = [record for one in found for record in one.faults]
    if violations:
        raise Unsound(f"{len(violations)} certified points are falsified, by exact witnesses")
    if faults:
        raise Unsound(f"the judge is at fault at {len(faults)} points: {faults[0]['fault']}")


def _replay(net: GloRoNet, model: Path, path: Path, json: bool) -> None:
    witness = load_witness(path)
    if witness.weights != fingerprint(net.backbone):
        raise InvalidInput(f"{path} is about other weights than those of {model}.")
    network = exact_network(net.backbone, witness.shape or (len(witness.point),))
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


def _show(prop: Property, found: CrossCheck) -> None:
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
