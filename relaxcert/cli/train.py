"""``relaxcert train``: train a network by a recipe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from relaxcert.cli.common import (
    Device,
    Seed,
    console,
    device_of,
    figure_cells,
    property_in_words,
    table,
)
from relaxcert.cli.parts import load_labelled, load_training, report_parts, sources_of
from relaxcert.data.images.sets import ImageSet
from relaxcert.data.landsat import Split
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.metrics import clean_accuracy_name
from relaxcert.spec.catalogue import load_document
from relaxcert.training.evaluation import evaluate
from relaxcert.training.loop import History, fit
from relaxcert.training.recipe import Recipe, load_recipe, recipes


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
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in the folder.")
    ] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    list_: Annotated[bool, typer.Option("--list", help="List the recipes and stop.")] = False,
) -> None:
    """Train a network that carries a property.

    Examples: [bold]relaxcert train --recipe landsat-rt3 --out runs/rt3[/bold],
    [bold]relaxcert train --recipe my-recipe.toml --data mine.npz --out runs/mine[/bold],
    [bold]relaxcert train --recipe acasxu-fast --data acasxu --out runs/acasxu[/bold]
    """
    if list_:
        _print_recipes()
        return
    chosen = load_recipe(recipe)
    chosen = with_settings(
        chosen, epochs=epochs, precision=precision, accumulate=accumulate, compile=compile_
    )
    source, tests = sources_of(chosen, data)
    points = load_training(source)
    checked = None if validation is None else load_labelled(validation, "--validation")
    parts = {
        name: load_labelled(where, "--test")
        for name, where in ({name: name for name in test} if test else tests).items()
    }
    net = network_of(chosen, points, seed).to(device_of(device))
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
    target = out / f"{chosen.name}.safetensors"
    names = load_document(chosen.property).class_names
    save_model(net, target, class_names=names, notes={"recipe": chosen.name, "seed": str(seed)})
    _report(net, history, cpu, checked, target)
    if parts:
        report_parts(console(), net, parts, names)


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


def _print_recipes() -> None:
    rows: list[list[str]] = []
    for name in recipes():
        found = load_recipe(name)
        rows.append([name, found.data, found.property, found.title])
    console().print(table("Recipes that ship", ("name", "data", "property", "title"), rows))


def _report(
    net: GloRoNet, history: History, cpu: float, checked: Split | None, target: Path
) -> None:
    screen = console()
    seconds = sum(epoch.seconds for epoch in history.epochs)
    screen.print(property_in_words(net.prop), markup=False)
    screen.print(
        f"{len(history.epochs)} epochs in {seconds:.1f} s ({cpu:.1f} s of CPU time in this run), "
        f"last loss {history.epochs[-1].loss:.4f}"
    )
    if checked is not None:
        device = next(net.backbone.parameters()).device
        figures, _ = evaluate(net, checked.inputs.to(device), checked.labels.to(device))
        clean = clean_accuracy_name(net.prop)
        columns = ("data", "VRA", "rejection rate", clean, "top-1 accuracy")
        screen.print(table("Validation", columns, [["validation", *figure_cells(figures)]]))
    screen.print(f"model written to {target}", markup=False)
