"""``relaxcert compare``: what one network rejects and another certifies, on the same points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from relaxcert.cli.common import (
    Device,
    Json,
    console,
    device_of,
    figure_cells,
    load_points,
    property_in_words,
    table,
)
from relaxcert.errors import InvalidInput
from relaxcert.files import write_text
from relaxcert.heads.certificates import Certificates, concatenate
from relaxcert.heads.model_file import Model, load_model
from relaxcert.report.comparison import Comparison, Share, compare
from relaxcert.report.comparison_plots import overview, points_with_sets
from relaxcert.report.verdicts import to_json
from relaxcert.spec.affinity import AffinitySets
from relaxcert.spec.catalogue import load_property
from relaxcert.spec.prefix import PrefixProperty
from relaxcert.training.progress import bar

JSON, OVERVIEW, POINTS = "comparison.json", "comparison.png", "points.png"


def compare_command(
    first: Annotated[Path, typer.Argument(help="Model file of the one network, e.g. for Local.")],
    second: Annotated[Path, typer.Argument(help="Of the other, e.g. for a relaxed property.")],
    data: Annotated[
        str, typer.Option(help="Labelled points, as for certify: landsat:test, FOLDER:test.")
    ],
    groups: Annotated[
        str | None,
        typer.Option(
            help="Sets of classes to hold certified sets against: an affinity property of the "
            "catalogue or a .toml, or class names or numbers like 'a,b;c,d'. Default: the affinity "
            "sets of SECOND or FIRST, if one has them."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help=f"Folder for {JSON}, {OVERVIEW} and {POINTS}.")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="Points of each kind to show.")] = 8,
    batch_size: Annotated[int, typer.Option(min=1, help="Points at a time.")] = 1024,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Compare two networks on the same points (sections 6.1 to 6.3 of Leino and Fredrikson 2021).

    Which points one rejects and the other certifies, in all and by class; whose certified sets lie
    inside groups of classes; how large the sets are; points that show it, with their sets.

    Example: [bold]relaxcert compare local.safetensors rt3.safetensors --data landsat:test
    --groups landsat/soils --out comparison[/bold]
    """
    where = device_of(device)
    models = tuple(load_model(path, device=where) for path in (first, second))
    names = _class_names(models)
    inputs, labels = load_points(data, models[0].net)
    if labels is None or len(inputs) == 0:
        raise InvalidInput(f"--data {data} must hold points with labels, e.g. a .npz with x and y.")
    sets = _groups(groups, models, names)
    pair = (
        _certified(models[0], inputs, batch_size, where),
        _certified(models[1], inputs, batch_size, where),
    )
    found = compare(pair[0], pair[1], labels, groups=sets, class_names=names, examples=examples)
    shown = [path.stem for path in (first, second)]
    content = _as_dict(found, pair, names, [str(first), str(second)], data, sets)
    written: list[Path] = []
    if out is not None:
        titles = (f"1st: {shown[0]}", f"2nd: {shown[1]}")
        written.append(write_text(out / JSON, to_json(content, indent=2) + "\n"))
        written.append(overview(found, titles, out / OVERVIEW))
        drawn = points_with_sets(found, pair, inputs, labels, names, out / POINTS)
        written += [] if drawn is None else [drawn]
    if json:
        typer.echo(to_json(content, indent=2))
        return
    _show(found, models, shown)
    for path in written:
        console().print(f"written to {path}", markup=False)


def _class_names(models: Sequence[Model]) -> tuple[str, ...]:
    one, other = models
    counts = [model.net.num_classes for model in models]
    if counts[0] != counts[1]:
        raise InvalidInput(
            f"the networks have {counts[0]} and {counts[1]} classes: compare networks of one task."
        )
    if one.class_names and other.class_names and one.class_names != other.class_names:
        raise InvalidInput(
            f"the networks name their classes differently ({', '.join(one.class_names[:3])}, ... "
            f"and {', '.join(other.class_names[:3])}, ...): compare networks of one task."
        )
    return one.class_names or other.class_names or tuple(map(str, range(counts[0])))


def _groups(
    text: str | None, models: Sequence[Model], names: tuple[str, ...]
) -> AffinitySets | None:
    """The sets of a property, of a text, or of one of the networks."""
    if text is None:
        properties = [model.net.prop for model in reversed(models)]
        found = [p.affinity_sets for p in properties if isinstance(p, PrefixProperty)]
        return next((sets for sets in found if sets is not None), None)
    if "," in text or ";" in text:
        listed = [[part.strip() for part in group.split(",")] for group in text.split(";")]
        members = [[_class_of(part, names) for part in group] for group in listed]
        named = {str(place): group for place, group in enumerate(members)}
        return AffinitySets.from_groups(named, len(names))
    prop = load_property(text)
    sets = prop.affinity_sets if isinstance(prop, PrefixProperty) else None
    if sets is None:
        raise InvalidInput(
            f"--groups {text} has no affinity sets: give an affinity property, or 'a,b;c,d'."
        )
    return sets


def _class_of(text: str, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise InvalidInput(
        f"--groups names a class {text!r}, expected a number below {len(names)} or one of "
        f"{', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
    )


def _certified(model: Model, inputs: Tensor, batch_size: int, device: torch.device) -> Certificates:
    batches: list[Certificates] = []
    with bar() as progress:
        task = progress.add_task("certifying", total=len(inputs))
        for chosen in inputs.split(batch_size):
            batches.append(model.net.certify(chosen.to(device)))
            progress.advance(task, len(chosen))
    return concatenate(batches)


def _show(found: Comparison, models: Sequence[Model], shown: Sequence[str]) -> None:
    screen = console()
    rows = [
        [f"{place}: {name}", property_in_words(model.net.prop), *figure_cells(figures)]
        for place, name, model, figures in zip(
            ("1st", "2nd"), shown, models, found.figures, strict=True
        )
    ]
    columns = ("network", "property", "VRA", "rejection rate", "clean accuracy", "top-1 accuracy")
    screen.print(table(f"{found.figures[0].points:,} points", columns, rows))
    rows = [
        [f"of the points that the {place} rejects", str(rejected.certified.of)]
        + [_percent(s) for s in (rejected.certified, rejected.alone, rejected.counting)]
        for place, rejected in zip(("1st", "2nd"), found.rejected, strict=True)
    ]
    columns = ("the other certifies", "points", "all", "for one class", "with the label")
    screen.print(table("Rejected by one", columns, rows))
    if found.grouped is not None:
        rows = [
            [place, str(grouped.strictest.of)]
            + [_percent(s) for s in (grouped.strictest, grouped.loosest, grouped.rescued)]
            for place, grouped in zip(("1st", "2nd"), found.grouped, strict=True)
        ]
        columns = (
            "certified sets of the",
            "points",
            "strictest in a group",
            "loosest in a group",
            "in none, certified by the other",
        )
        screen.print(table("Sets inside groups", columns, rows))
    rows = [
        [line.name, str(line.points)] + [_percent(s) for s in (*line.rejected, *line.recovered)]
        for line in found.classes
        if line.points
    ]
    columns = (
        "class",
        "points",
        "1st rejects",
        "2nd rejects",
        "of 1st's, 2nd certifies",
        "and back",
    )
    screen.print(table("By class", columns, rows))
    for place, strict, loose in zip(
        ("1st", "2nd"), found.strictest_sizes, found.loosest_sizes, strict=True
    ):
        screen.print(f"{place}: strictest sets {_counts(strict)}; loosest {_counts(loose)}")


def _percent(share: Share) -> str:
    return "-" if not share.of else f"{100 * share.share:.1f} %"


def _counts(sizes: list[int]) -> str:
    told = [f"{count:,} of {size}" for size, count in enumerate(sizes) if size and count]
    return ", ".join([*told, f"{sizes[0]:,} none"])


def _as_dict(
    found: Comparison,
    pair: tuple[Certificates, Certificates],
    names: tuple[str, ...],
    paths: list[str],
    data: str,
    groups: AffinitySets | None,
) -> dict[str, Any]:
    return {
        "models": paths,
        "data": data,
        "digests": [certificates.digest for certificates in pair],
        "weights_sha256": [certificates.fingerprint for certificates in pair],
        "class_names": list(names),
        "groups": None if groups is None else [list(members) for members in groups.sets],
        **_with_shares(asdict(found)),
        "example_sets": {
            str(row): [
                torch.nonzero(certificates.strictest_sets[row]).flatten().tolist()
                for certificates in pair
            ]
            for row in sorted({row for rows in found.examples.values() for row in rows})
        },
    }


def _with_shares(value: Any) -> Any:
    """Plain data with the share beside each pair of counts."""
    if isinstance(value, dict):
        content: dict[str, Any] = {str(key): _with_shares(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if content.keys() == {"count", "of"}:
            return {**content, "share": Share(**content).share}
        return content
    if isinstance(value, list | tuple):
        return [_with_shares(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
