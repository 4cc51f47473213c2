"""From verdict folders to one page: what each section shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from relaxcert import __version__
from relaxcert.files import write_text
from relaxcert.report import pictures, plots
from relaxcert.report.examples import Group, groups_of
from relaxcert.report.html import render
from relaxcert.report.judged import read_attack, read_crosscheck
from relaxcert.report.records import Attacked, ClassRow, CrossChecked
from relaxcert.report.run import Run
from relaxcert.report.svg import Picture
from relaxcert.report.wording import Level, Statement, level_of, statement

_MOST_PAIRS = 25


@dataclass(frozen=True)
class ClassLine:
    """One line of the table of classes."""

    figures: ClassRow
    alone: int
    partner: str
    together: int


@dataclass(frozen=True)
class Grouping:
    """Which classes are certified together."""

    matrix: Picture
    graph: Picture
    pairs: list[tuple[str, str, int]]
    pair_count: int
    shown: int


@dataclass(frozen=True)
class Section:
    """All that a page says of one run; ``key`` is unique on the page."""

    key: str
    run: Run
    property: Statement
    level: Level
    curves: Picture | None
    sizes: Picture
    margins: Picture
    classes: list[ClassLine]
    grouping: Grouping | None
    attack: Attacked | None
    crosscheck: CrossChecked | None
    groups: list[Group]
    has_inputs: bool
    why_no_inputs: str


def section(
    run: Run,
    key: str,
    inputs: Tensor | None,
    *,
    why_no_inputs: str = "",
    attack: Path | None = None,
    crosscheck: Path | None = None,
) -> Section:
    """What a page says of one run.

    Args:
        run: read from its files.
        key: a short word, unique on the page.
        inputs: (points, ...), the points that were certified, if they are at hand.
        why_no_inputs: said where they are not.
        attack, crosscheck: a file and a folder; default: what lies beside the verdicts.

    Raises:
        DataError: an attack or cross-check of something else.
    """
    together = plots.grouped_together(run)
    return Section(
        key=key,
        run=run,
        property=statement(run.summary.prop, run.class_names),
        level=level_of(run.summary.level),
        curves=pictures.curves(run, f"{key}c"),
        sizes=pictures.sizes(run, f"{key}s"),
        margins=pictures.margins(run, f"{key}h"),
        classes=_classes(run, together),
        grouping=_grouping(run, together, key),
        attack=read_attack(run, attack),
        crosscheck=read_crosscheck(run, crosscheck),
        groups=groups_of(run, inputs),
        has_inputs=inputs is not None,
        why_no_inputs=why_no_inputs,
    )


def write_report(sections: Sequence[Section], path: str | Path, *, title: str) -> Path:
    """Write the page, atomically.

    Raises:
        MissingReport: jinja2 is not installed.
    """
    runs = {part.run.name: part.run for part in sections}
    comparison = pictures.compared(runs, "all") if len(sections) > 1 else None
    text = render(
        "report.html", title=title, sections=sections, comparison=comparison, version=__version__
    )
    return write_text(path, text)


def _grouping(run: Run, together: Tensor, key: str) -> Grouping | None:
    pair_count = int((together.triu(1) > 0).sum())
    if pair_count == 0:
        return None
    matrix, graph, shown = pictures.grouping(run, together, key)
    names = run.class_names
    pairs = pictures.most_frequent_pairs(together, _MOST_PAIRS)
    named = [(names[a], names[b], count) for a, b, count in pairs]
    return Grouping(matrix, graph, named, pair_count, shown)


def _classes(run: Run, together: Tensor) -> list[ClassLine]:
    rows = run.summary.by_class
    if rows is None or len(rows) != len(run.class_names):
        rows = _counted(run)
    off_diagonal = together - torch.diag(together.diagonal())
    lines: list[ClassLine] = []
    for label, row in enumerate(rows):
        most = int(off_diagonal[label].max())
        partner = run.class_names[int(off_diagonal[label].argmax())] if most else ""
        # The name is that of the run, without control characters.
        named = row.model_copy(update={"name": run.class_names[label]})
        lines.append(ClassLine(named, int(together[label, label]), partner, most))
    return lines


def _counted(run: Run) -> list[ClassRow]:
    """Figures by class where the summary has none: by label, or by prediction without labels."""
    by = run.prediction if run.labels is None else run.labels
    rows: list[ClassRow] = []
    for label, name in enumerate(run.class_names):
        chosen = by == label
        right = torch.zeros(0) if run.labels is None else run.prediction[chosen] == label
        rows.append(
            ClassRow(
                name=name,
                points=int(chosen.sum()),
                vra=math.nan if run.correct is None else _share(run.correct[chosen]),
                rejection_rate=_share(~run.certified[chosen]),
                clean_accuracy=math.nan,
                top1_accuracy=_share(right),
            )
        )
    return rows


def _share(flags: Tensor) -> float:
    return float(flags.double().mean()) if flags.numel() else math.nan


def title_of(runs: Mapping[str, Run] | Sequence[Run]) -> str:
    """A title for a page of these runs."""
    names = [run.name for run in (runs.values() if isinstance(runs, Mapping) else runs)]
    return names[0] if len(names) == 1 else ", ".join(names)
