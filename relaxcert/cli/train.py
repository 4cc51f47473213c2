"""``relaxcert train``: train a network by a recipe."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from relaxcert.cli.common import (
    Device,
    Json,
    Seed,
    console,
    device_of,
    figure_cells,
    property_in_words,
    table,
)
from relaxcert.cli.dry_run import dry_run
from relaxcert.cli.interrupts import resumable, this_command
from relaxcert.cli.parts import (
    JudgedPart,
    judge_part,
    load_labelled,
    load_training,
    show_parts,
    sources_of,
    write_part,
)
from relaxcert.data.images.sets import ImageSet
from relaxcert.data.landsat import Split
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.metrics import clean_accuracy_name
from relaxcert.report.provenance import made_from
from relaxcert.report.verdicts import to_json
from relaxcert.spec.catalogue import load_document
from relaxcert.training.history import History
from relaxcert.training.loop import CHECKPOINT, fit
from relaxcert.training.ranks import joined, launched
from relaxcert.training.recipe import Recipe, load_recipe, recipes

VERDICTS = "verdicts"  # in the folder of the model: verdict files of the test parts


def train(
    recipe: Annotated[
        str, typer.Option("--recipe", help="A recipe that ships (see --list), or a .toml file.")
    ] = "landsat-rt3",
    data: Annotated[
        str | None,
        typer.Option(
            help="Training data: a .npz with x and y, a folder that relaxcert data wrote (its test "
            "parts are reported on), landsat:train, or hcas. Default: the recipe's own."
        ),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(help="Labelled points certified during training, e.g. landsat:validation."),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(help="Labelled points to report on after training; may be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model and checkpoints.")] = Path("runs"),
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Train so many epochs instead of the recipe's.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="bf16 or float32 for the backbone while training; else the recipe's."),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(min=1, help="Take each batch in so many parts: the same step, less memory."),
    ] = None,
    compile_: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Compile the loss; or do not.")
    ] = None,
    dry: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the plan (data, network, memory), make 3 steps, stop.",
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="With --dry-run: PNG of the schedules. Default: beside the folder."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in the folder.")
    ] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    list_: Annotated[bool, typer.Option("--list", help="List the recipes and stop.")] = False,
    json: Json = False,
) -> None:
    """Train a network that carries a property; certify the test parts, if there are any.

    Ctrl-C keeps the last checkpoint; the same command with --resume goes on from there.

    Examples: [bold]relaxcert train --recipe landsat-rt3 --out runs/rt3[/bold],
    [bold]relaxcert train --recipe cifar100-rt5 --data cifar-100-binary --dry-run[/bold],
    [bold]relaxcert train --recipe my-recipe.toml --data mine.npz --out runs/mine[/bold],
    [bold]relaxcert train --recipe acasxu-fast --data acasxu --out runs/acasxu[/bold]

    On several processes or GPUs (--device cuda): [bold]torchrun --nproc-per-node 2 -m relaxcert
    train --recipe landsat-rt3 --out runs/rt3[/bold]
    """
    if list_:
        _print_recipes(json)
        return
    chosen = load_recipe(recipe)
    chosen = with_settings(
        chosen, epochs=epochs, precision=precision, accumulate=accumulate, compile=compile_
    )
    source, tests = sources_of(chosen, data)
    points = load_training(source)
    checked = None if validation is None else load_labelled(validation, "--validation")
    sources = {name: name for name in test} if test else tests
    parts = {name: load_labelled(where, "--test") for name, where in sources.items()}
    earlier = None if resume else _last_written(out)
    with joined(device) as own_device, resumable(lambda: _how_to_go_on(out, earlier)):
        net = network_of(chosen, points, seed).to(device_of(own_device))
        if dry:
            picture = plot or out.with_name(f"{out.name}-schedules.png")
            dry_run(chosen, source, points, net, seed=seed, plot=picture, json=json)
            return
        started = time.process_time()
        history = fit(
            net,
            points,
            chosen.optimisation,
            validation=checked,
            seed=seed,
            folder=out,
            resume=resume,
        )
        cpu = time.process_time() - started
    if not launched().first:
        return
    target = out / f"{chosen.name}.safetensors"
    names = load_document(chosen.property).class_names
    notes = {"recipe": chosen.name, "seed": str(seed)}
    save_model(net, target, class_names=names, notes=notes)
    judged = {name: judge_part(net, split, names) for name, split in parts.items()}
    for name, split in parts.items():
        origin = made_from(split.inputs, command=this_command(), model=target, notes=notes)
        folder = out / VERDICTS / (re.sub(r"[^\w.]+", "-", name).strip("-.") or "test")
        more = {**origin, "model": str(target), "data": sources[name]}
        write_part(folder, net, split, judged[name], names, **more)
    held = None if checked is None else judge_part(net, checked, names)
    if json:
        typer.echo(to_json(_summary(net, history, cpu, held, judged, target), indent=2))
        return
    _report(net, history, cpu, held, target)
    if judged:
        show_parts(console(), net, judged)


def with_settings(recipe: Recipe, **changes: object) -> Recipe:
    """The recipe with other settings of its optimisation, where they are not None.

    Raises:
        InvalidInput: an unknown precision.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    if given.get("precision", "bf16") not in ("float32", "bf16"):
        raise InvalidInput(f"--precision {given['precision']} must be float32 or bf16.")
    settings = recipe.optimisation.model_copy(update=given)
    return recipe.model_copy(update={"optimisation": settings})


def network_of(recipe: Recipe, points: Split | ImageSet, seed: int) -> GloRoNet:
    """The recipe's network for data of this shape, with the weights that the seed gives."""
    document = load_document(recipe.property)
    prop = document.to_property()
    classes = document.num_classes
    shape = tuple(points.inputs.shape[1:]) if isinstance(points, Split) else points.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GloRoNet(recipe.architecture.build(shape, classes), prop, input_shape=shape)


def _last_written(out: Path) -> int | None:
    """When the checkpoint in a folder was written, if there is one."""
    checkpoint = out / CHECKPOINT
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else None


def _how_to_go_on(out: Path, earlier: int | None) -> str:
    """``earlier``: when a checkpoint that is not of this run was written."""
    if _last_written(out) == earlier:
        return f"no epoch was kept yet; start again with: {this_command()}"
    return f"the last checkpoint is in {out}; go on with: {this_command('--resume')}"


def _print_recipes(json: bool) -> None:
    found = {name: load_recipe(name) for name in recipes()}
    if json:
        listed = [
            {"name": name, "data": it.data, "property": it.property, "title": it.title}
            for name, it in found.items()
        ]
        typer.echo(to_json(listed, indent=2))
        return
    rows = [[name, it.data, it.property, it.title] for name, it in found.items()]
    console().print(table("Recipes that ship", ("name", "data", "property", "title"), rows))


def _summary(
    net: GloRoNet,
    history: History,
    cpu: float,
    held: JudgedPart | None,
    judged: dict[str, JudgedPart],
    target: Path,
) -> dict[str, Any]:
    return {
        "model": str(target),
        "digest": net.digest,
        "weights_sha256": net.verify().fingerprint,
        "clean_accuracy_is": clean_accuracy_name(net.prop),
        "epochs": [asdict(epoch) for epoch in history.epochs],
        "cpu_seconds": cpu,
        "validation": None if held is None else held.as_dict(),
        "tests": {name: part.as_dict() for name, part in judged.items()},
    }


def _report(
    net: GloRoNet, history: History, cpu: float, held: JudgedPart | None, target: Path
) -> None:
    screen = console()
    seconds = sum(epoch.seconds for epoch in history.epochs)
    screen.print(property_in_words(net.prop), markup=False)
    screen.print(
        f"{len(history.epochs)} epochs in {seconds:.1f} s ({cpu:.1f} s of CPU time in this run), "
        f"last loss {history.epochs[-1].loss:.4f}"
    )
    if held is not None:
        clean = clean_accuracy_name(net.prop)
        columns = ("data", "VRA", "rejection rate", clean, "top-1 accuracy")
        cells = figure_cells(held.figures)
        screen.print(table("Validation", columns, [["validation", *cells]]))
    screen.print(f"model written to {target}", markup=False)
