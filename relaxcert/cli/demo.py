"""``relaxcert demo``: the main job on real data, from property to certificate to picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from relaxcert.attacks import attack
from relaxcert.cli.common import (
    EMBEDDED,
    Device,
    Json,
    Seed,
    console,
    device_of,
    table,
)
from relaxcert.cli.interrupts import this_command
from relaxcert.cli.train import network_of
from relaxcert.data.landsat import Split
from relaxcert.errors import InvalidInput
from relaxcert.files import write_text
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.metrics import clean_accuracy_name
from relaxcert.report import plots
from relaxcert.report.provenance import made_from
from relaxcert.report.verdicts import ATTACK, summary_of, to_json, write_verdicts
from relaxcert.training.evaluation import Figures, evaluate
from relaxcert.training.loop import fit
from relaxcert.training.recipe import Recipe, load_recipe

_RADII = [0.0025 * step for step in range(1, 33)]
PICTURE, RESULTS = "demo.png", "results.json"


@dataclass(frozen=True)
class _Set:
    """A data set that ships, and its three recipes: local, relaxed top-K, affinity."""

    title: str
    unit: str
    recipes: tuple[str, str, str]


SETS = {
    "landsat": _Set(
        "Landsat Satimage (UCI, CC BY 4.0)",
        "l2, pixel values / 255",
        ("landsat-local", "landsat-rt3", "landsat-soils"),
    ),
    "letter": _Set(
        "Letter Recognition (UCI, CC BY 4.0; 380 test points also occur in training)",
        "l2, features / 15",
        ("letter-local", "letter-rt3", "letter-shapes"),
    ),
}


@dataclass(frozen=True)
class _Result:
    """One network, certified and attacked."""

    recipe: Recipe
    seed: int
    net: GloRoNet
    figures: Figures
    certificates: Certificates
    train_seconds: float
    broken_certificates: int
    falsified_rejections: int
    attacked: bool

    @property
    def rejected(self) -> int:
        return int((~self.certificates.certified).sum())

    def as_dict(self) -> dict[str, Any]:
        attacks = {
            "certified_points_broken": self.broken_certificates,
            "rejected_points_falsified": self.falsified_rejections,
            "rejected_points": self.rejected,
        }
        return {
            "recipe": self.recipe.name,
            "seed": self.seed,
            "train_seconds": self.train_seconds,
            **self.figures.as_dict(),
            "attack": attacks if self.attacked else None,
        }


def demo(
    out: Annotated[Path, typer.Option(help="Folder for models, verdicts and the picture.")] = Path(
        "relaxcert-demo"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Train each network with so many seeds.")] = 1,
    seed: Seed = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Train so many epochs (for a quick look).")
    ] = None,
    data: Annotated[str, typer.Option(help="Which data that ship: landsat, letter.")] = "landsat",
    attacks: Annotated[
        bool, typer.Option("--attack/--no-attack", help="Attack every test point.")
    ] = True,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Train Local, RT3 and affinity networks on data that ship, and certify their test split.

    Prints the figures of the paper's Table 1 for this data, attacks every point, and draws VRA
    against eps and the classes that are certified together.

    Examples: [bold]relaxcert demo[/bold], [bold]relaxcert demo --seeds 3 --out three[/bold],
    [bold]relaxcert demo --data letter --out letters[/bold]
    """
    started = time.perf_counter()
    # Small networks run faster on one thread, and figures then do not hang on the number of cores.
    torch.set_num_threads(1)
    # With --json the results alone go to standard output.
    screen, target = Console(stderr=True, quiet=True) if json else console(), device_of(device)
    if data not in SETS:
        raise InvalidInput(f"--data {data} does not ship: use one of {', '.join(SETS)}.")
    chosen = SETS[data]
    train, test = EMBEDDED[data]("train"), EMBEDDED[data]("test")
    screen.print(
        f"{chosen.title}: {len(train)} training and {len(test)} test points of "
        f"{train.inputs.shape[1]} features, {len(train.class_names or ())} classes",
        markup=False,
    )
    results: list[_Result] = []
    for number in range(seed, seed + seeds):
        for name in chosen.recipes:
            result = _run(load_recipe(name), number, epochs, train, test, target, attacks=attacks)
            results.append(result)
            screen.print(_line(result), markup=False, highlight=False)
            if number == seed:
                _write(result, test, out, data)
    screen.print(_table(results, chosen.recipes, seeds))
    if attacks:
        screen.print(_attack_summary(results), markup=False)
    write_text(out / RESULTS, to_json([result.as_dict() for result in results], indent=2) + "\n")
    files = f"models, verdicts, {RESULTS} and {PICTURE}"
    try:
        first = [result for result in results if result.seed == seed]
        _draw(first, test, out / PICTURE, chosen.unit)
    except plots.MissingPlots as missing:
        files = f"models, verdicts and {RESULTS}"
        screen.print(f"no picture was drawn: {missing}", markup=False)
    screen.print(
        f"{files} are in {out} ({time.perf_counter() - started:.0f} s in all)",
        markup=False,
    )
    if json:
        typer.echo(to_json([result.as_dict() for result in results], indent=2))


def _run(
    recipe: Recipe,
    seed: int,
    epochs: int | None,
    train: Split,
    test: Split,
    device: torch.device,
    *,
    attacks: bool,
) -> _Result:
    settings = recipe.optimisation
    if epochs is not None:
        settings = settings.model_copy(update={"epochs": epochs})
    net = network_of(recipe, train, seed).to(device)
    started = time.perf_counter()
    fit(net, train, settings, seed=seed)
    seconds = time.perf_counter() - started
    inputs, labels = test.inputs.to(device), test.labels.to(device)
    figures, certificates = evaluate(net, inputs, labels)
    broken = falsified = 0
    if attacks:
        hit = attack(net, inputs, seed=seed).falsified
        broken = int((hit & certificates.certified).sum())
        falsified = int((hit & ~certificates.certified).sum())
    return _Result(recipe, seed, net, figures, certificates, seconds, broken, falsified, attacks)


def _line(result: _Result) -> str:
    return (
        f"{result.recipe.name}, seed {result.seed}: trained in {result.train_seconds:.1f} s, "
        f"VRA {result.figures.vra:.3f}"
    )


def _table(results: Sequence[_Result], recipes: Sequence[str], seeds: int) -> Any:
    rows: list[list[str]] = []
    for name in recipes:
        runs = [result for result in results if result.recipe.name == name]
        cells = [
            _mean_and_deviation([getattr(run.figures, field) for run in runs])
            for field in ("vra", "rejection_rate", "clean_accuracy", "top1_accuracy")
        ]
        clean = clean_accuracy_name(runs[0].net.prop)
        rows.append([runs[0].recipe.title, *cells[:3], clean, cells[3]])
    title = f"Official test split, eps 0.03 (l2), level R, {seeds} seed" + "s" * (seeds > 1)
    columns = ("guarantee", "VRA", "rejection rate", "clean accuracy", "which is", "top-1")
    return table(title, columns, rows)


def _mean_and_deviation(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return f"{mean:.3f} ± {deviation:.3f}"


def _attack_summary(results: Sequence[_Result]) -> str:
    certified = sum(int(result.certificates.certified.sum()) for result in results)
    broken = sum(result.broken_certificates for result in results)
    rejected = sum(result.rejected for result in results)
    falsified = sum(result.falsified_rejections for result in results)
    return (
        f"margin PGD (l2, 3 restarts of 40 steps): broke {broken} of {certified} certificates; "
        f"proved {falsified} of {rejected} rejections right (the property really fails there)"
    )


def _write(result: _Result, test: Split, out: Path, data: str) -> None:
    names = test.class_names
    notes = {"recipe": result.recipe.name, "seed": str(result.seed)}
    model = out / f"{result.recipe.name}.safetensors"
    save_model(result.net, model, class_names=names, notes=notes)
    summary = summary_of(
        result.certificates,
        result.figures,
        bounds=result.net.lipschitz.table(),
        class_names=names,
        labels=test.labels,
        **made_from(test.inputs, command=this_command(), model=model, notes=notes),
        model=str(model),
        recipe=result.recipe.name,
        seed=result.seed,
        data=f"{data}:test",
    )
    folder = out / result.recipe.name
    write_verdicts(folder, result.certificates, test.labels, summary)
    if result.attacked:
        write_text(folder / ATTACK, to_json(_attack_of(result), indent=2) + "\n")


def _attack_of(result: _Result) -> dict[str, Any]:
    """What ``relaxcert attack`` would say."""
    certificates, broken = result.certificates, result.broken_certificates
    return {
        "digest": certificates.digest,
        "weights_sha256": certificates.fingerprint,
        "points": len(certificates),
        "certified": int(certificates.certified.sum()),
        "broken": broken + result.falsified_rejections,
        "open": result.rejected - result.falsified_rejections,
        "certified_and_broken": broken,
        "vra": result.figures.vra,
    }


def _draw(results: Sequence[_Result], test: Split, path: Path, unit: str) -> None:
    figure, axes = plots.new_figure(columns=3, width=17, height=5.6)
    curves = {
        result.recipe.title: (_RADII, [_vra_at(result.net, test, eps) for eps in _RADII])
        for result in results
    }
    plots.vra_curve(curves, ax=axes[0], eps=0.03, unit=unit)
    axes[0].set_title("Verified-robust accuracy against eps")
    for result, ax in zip(results[1:], axes[1:], strict=True):
        title = f"{result.recipe.title}:\ntest points by strictest certified set"
        plots.grouping_map(result.certificates, test.class_names or (), ax=ax, title=title)
    plots.save(figure, path)


def _vra_at(net: GloRoNet, test: Split, eps: float) -> float:
    device = next(net.backbone.parameters()).device
    other = GloRoNet(net.backbone, net.prop.with_eps(eps))
    return evaluate(other, test.inputs.to(device), test.labels.to(device))[0].vra
