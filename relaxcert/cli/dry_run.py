"""``relaxcert train --dry-run``: the whole plan of a run, and its first three steps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import typer

from relaxcert.cli.common import console, property_in_words, table
from relaxcert.data.images.sets import ImageSet
from relaxcert.data.landsat import Split
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.metrics import clean_accuracy_name
from relaxcert.report.architecture import (
    LayerLine,
    flops_of,
    in_bytes,
    in_thousands,
    layer_lines,
    parameters_of,
)
from relaxcert.report.schedule_plot import schedule_plot
from relaxcert.report.verdicts import to_json
from relaxcert.spec.catalogue import load_document
from relaxcert.training.loop import Run
from relaxcert.training.plan import Memory, memory_of, schedules
from relaxcert.training.recipe import Recipe

STEPS = 3
_WIDTH = 37  # of the names in the plan


@dataclass(frozen=True)
class Plan:
    """Everything that a run depends on, and what its first steps gave."""

    recipe: Recipe
    source: str
    net: GloRoNet
    shape: tuple[int, ...]
    counts: dict[str, int]
    notes: tuple[str, ...]
    layers: list[LayerLine]
    flops: int
    steps_an_epoch: int
    memory: Memory
    curves: dict[str, list[float]]
    made: list[tuple[float, float]]

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.steps_an_epoch * self.recipe.optimisation.epochs

    @property
    def seconds(self) -> float:
        """Of the whole run, by the fastest of the first steps; without evaluations."""
        return self.steps * min(seconds for _, seconds in self.made)


def dry_run(
    recipe: Recipe,
    source: str,
    points: Split | ImageSet,
    net: GloRoNet,
    *,
    seed: int,
    plot: Path,
    json: bool,
) -> None:
    """Make and print the plan; nothing is written but the picture of the schedules."""
    plan = plan_of(recipe, source, points, net, seed)
    drawn = schedule_plot(plan.curves, plan.steps, plot)
    if json:
        typer.echo(to_json(_as_dict(plan, drawn), indent=2))
    else:
        _show(plan, drawn)


def plan_of(
    recipe: Recipe, source: str, points: Split | ImageSet, net: GloRoNet, seed: int
) -> Plan:
    """The plan of a run; makes its first steps with ``net``, whose weights they change."""
    settings = recipe.optimisation
    run = Run(net, points, settings, seed)
    first, _ = next(run.batches.epoch(seed, 0))
    shape = tuple(first.shape[1:])
    held = points.inputs.numel() * points.inputs.element_size() if isinstance(points, Split) else 0
    most = -(-min(settings.batch_size, run.batches.points) // settings.accumulate)
    bf16 = settings.precision == "bf16"
    memory = memory_of(run.trained, first[:4], most, held, bf16=bf16)
    return Plan(
        recipe=recipe,
        source=source,
        net=net,
        shape=shape,
        counts=_counts(points, net.num_classes, recipe),
        notes=_notes(points, recipe),
        layers=layer_lines(net.backbone, shape),
        flops=flops_of(net.backbone, shape),
        steps_an_epoch=len(run.batches),
        memory=memory,
        curves=schedules(settings),
        made=_first_steps(run),
    )


def _first_steps(run: Run) -> list[tuple[float, float]]:
    with torch.random.fork_rng(devices=[]):
        return run.first_steps(STEPS)


def _counts(points: Split | ImageSet, num_classes: int, recipe: Recipe) -> dict[str, int]:
    names = load_document(recipe.property).class_names or tuple(map(str, range(num_classes)))
    numbers = torch.bincount(points.labels, minlength=num_classes).tolist()
    return dict(zip(names, numbers, strict=True))


def _notes(points: Split | ImageSet, recipe: Recipe) -> tuple[str, ...]:
    """Where the data are not what the property speaks of."""
    document = load_document(recipe.property)
    names = points.class_names or ()
    notes: list[str] = []
    if names and document.class_names and tuple(names) != tuple(document.class_names):
        notes.append(
            f"the class names of the data ({', '.join(names[:3])}, ...) are not those of the "
            f"property ({', '.join(document.class_names[:3])}, ...): they are matched by number"
        )
    missing = document.num_classes - len(points.labels.unique())
    if missing:
        notes.append(f"{missing} of {document.num_classes} classes have no point to train on")
    return tuple(notes)


def _show(plan: Plan, drawn: Path) -> None:
    screen, settings = console(), plan.recipe.optimisation
    numbers = list(plan.counts.values())
    size = " x ".join(map(str, plan.shape))
    parts = f" in {settings.accumulate} parts" if settings.accumulate > 1 else ""
    rows = [
        ["recipe", f"{plan.recipe.name}: {plan.recipe.title}"],
        ["data", f"{plan.source}: {sum(numbers):,} points of {size}"],
        ["classes", f"{len(numbers)}, {_between(numbers)} points each"],
        ["property", property_in_words(plan.net.prop)],
        ["judged by", f"VRA, rejection rate, {clean_accuracy_name(plan.net.prop)}"],
        ["device", str(next(plan.net.backbone.parameters()).device)],
        ["loss", _loss(plan.recipe)],
        ["augmentation", settings.augmentation],
        ["precision", f"{settings.precision}{', compiled' if settings.compile else ''}"],
        ["batches", f"{settings.batch_size} points{parts}, {plan.steps_an_epoch:,} steps an epoch"],
        ["length", f"{settings.epochs} epochs, {plan.steps:,} steps"],
        *([name, _range(values)] for name, values in plan.curves.items()),
        *_memory_rows(plan.memory),
    ]
    for name, text in rows:
        screen.print(f"{name:<{_WIDTH}}{text}", markup=False, soft_wrap=True)
    lines = [
        [line.path, line.kind, " x ".join(map(str, line.shape)), f"{line.parameters:,}"]
        for line in plan.layers
    ]
    screen.print(table("Network", ("layer", "kind", "output of a point", "parameters"), lines))
    screen.print(
        f"{parameters_of(plan.net.backbone):,} parameters; {in_thousands(plan.flops)} operations a "
        "point and forward pass"
    )
    for number, (loss, seconds) in enumerate(plan.made):
        screen.print(f"step {number}: loss {loss:.4f}, {seconds:.3f} s")
    screen.print(f"at this pace all steps take {_duration(plan.seconds)}, evaluations aside")
    for note in plan.notes:
        screen.print(f"note: {note}", markup=False)
    screen.print(f"schedules drawn in {drawn}; nothing was trained or kept", markup=False)


def _memory_rows(memory: Memory) -> list[list[str]]:
    return [
        ["memory: weights, gradient, Adam", in_bytes(memory.state)],
        ["memory: kept for the backward pass", in_bytes(memory.saved)],
        ["memory: data as numbers", in_bytes(memory.data)],
        ["memory: total, estimated", in_bytes(memory.total)],
    ]


def _between(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _loss(recipe: Recipe) -> str:
    settings = recipe.optimisation
    parts = [settings.loss]
    if settings.temperature != 1.0:
        parts.append(f"temperature {settings.temperature:g}")
    if settings.margin_scale != 1.0:
        parts.append(f"for {settings.margin_scale:g} eps")
    if settings.ranking_weight:
        parts.append(f"ranking weight {settings.ranking_weight:g}")
    return ", ".join(parts)


def _range(values: list[float]) -> str:
    return f"{values[0]:.4g} at first, {max(values):.4g} at most, {values[-1]:.4g} at last"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _as_dict(plan: Plan, drawn: Path) -> dict[str, Any]:
    return {
        "recipe": plan.recipe.model_dump(mode="json", exclude_none=True),
        "data": plan.source,
        "points": sum(plan.counts.values()),
        "shape": list(plan.shape),
        "counts": plan.counts,
        "digest": plan.net.digest,
        "layers": [asdict(line) for line in plan.layers],
        "parameters": parameters_of(plan.net.backbone),
        "flops": plan.flops,
        "steps_an_epoch": plan.steps_an_epoch,
        "steps": plan.steps,
        "schedules": plan.curves,
        "memory": asdict(plan.memory) | {"total": plan.memory.total},
        "first_steps": [{"loss": loss, "seconds": seconds} for loss, seconds in plan.made],
        "seconds": plan.seconds if math.isfinite(plan.seconds) else None,
        "notes": list(plan.notes),
        "plot": str(drawn),
    }
