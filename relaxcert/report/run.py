"""Reading verdict files back: checked against one another, and refused where they disagree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from relaxcert.errors import DataError
from relaxcert.report.records import Point, Summary
from relaxcert.report.verdicts import POINTS, SUMMARY

_MOST_CELLS = 2**32  # points x classes of one mask of sets, in bytes
_MOST_SUMMARY = 2**26  # bytes


@dataclass(frozen=True)
class Run:
    """One verdict folder. Has what plots read of certificates.

    Attributes:
        name: of the folder, for people.
        summary: what was proved, of what.
        class_names: one a class; the index where there are no names.
        certified, k, strictest_k, margin, radius, prediction: (points,), as in ``Certificates``.
        sets, strictest_sets: (points, classes) bool.
        labels, label_ranks, correct, label_radius: (points,), or None without labels; ranks are 0
            where unknown, ``correct`` tells what counts for the VRA.
        by_solver: how many points a solver certified.
    """

    name: str
    folder: Path
    summary: Summary
    class_names: tuple[str, ...]
    certified: Tensor
    prediction: Tensor
    k: Tensor
    strictest_k: Tensor
    sets: Tensor
    strictest_sets: Tensor
    margin: Tensor
    radius: Tensor
    labels: Tensor | None
    label_ranks: Tensor | None
    correct: Tensor | None
    label_radius: Tensor | None
    by_solver: int

    def __len__(self) -> int:
        return len(self.certified)


def find_runs(path: str | Path) -> list[Path]:
    """The verdict folders at ``path``: itself, or those inside it, at most two levels down.

    Raises:
        DataError: there is none.
    """
    place = Path(path)
    place = place.parent if place.name in (POINTS, SUMMARY) and place.is_file() else place
    if (place / SUMMARY).is_file():
        return [place]
    found = sorted(
        {file.parent for level in ("*", "*/*") for file in place.glob(f"{level}/{SUMMARY}")}
    )
    if not found:
        raise DataError(
            f"{place}: holds no {SUMMARY}: give a folder that relaxcert certify --out, train or "
            "demo wrote."
        )
    return found


def read_run(folder: Path) -> Run:
    """Read a verdict folder.

    Raises:
        DataError: a file is missing, damaged, or contradicts the other.
    """
    summary = _read_summary(folder / SUMMARY)
    records = list(_records(folder / POINTS))
    _check(folder, summary, records)
    classes = _classes(folder, summary, records)
    sets = [record.set for record in records]
    strictest = [
        record.set if record.strictest_set is None else record.strictest_set for record in records
    ]
    labelled = bool(records) and all(record.label is not None for record in records)
    known = [(record.label or 0, record.label_rank or 0, _counts(record)) for record in records]
    label, rank, correct = torch.tensor(known or [(0, 0, 0)])[: len(known)].unbind(1)
    return Run(
        name=folder.name or str(folder),
        folder=folder,
        summary=summary,
        class_names=tuple(map(_printable, summary.class_names or map(str, range(classes)))),
        certified=torch.tensor([record.certified for record in records], dtype=torch.bool),
        prediction=torch.tensor([record.prediction for record in records], dtype=torch.int64),
        k=torch.tensor([record.k for record in records], dtype=torch.int64),
        strictest_k=torch.tensor([record.strictest_k for record in records], dtype=torch.int64),
        sets=_mask(sets, classes),
        strictest_sets=_mask(strictest, classes),
        margin=torch.tensor([record.margin for record in records], dtype=torch.float64),
        radius=torch.tensor([record.radius for record in records], dtype=torch.float64),
        labels=label if labelled else None,
        label_ranks=rank if labelled else None,
        correct=correct.bool() if labelled else None,
        label_radius=_label_radius(summary, records) if labelled else None,
        by_solver=sum(record.engine not in (None, "", "head") for record in records),
    )


def _read_summary(path: Path) -> Summary:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    if path.stat().st_size > _MOST_SUMMARY:
        raise DataError(f"{path}: {path.stat().st_size} bytes, far more than any summary has.")
    try:
        summary = Summary.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path}: {_first(error)}") from error
    text = json.dumps(summary.prop, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    if hashlib.sha256(text.encode()).hexdigest() != summary.digest:
        raise DataError(
            f"{path}: the property does not match its digest, so the file was changed after it was "
            "written: certify again."
        )
    return summary


def _records(path: Path) -> Iterator[Point]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file, which a summary should have beside it.")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = Point.model_validate_json(line)
            except ValidationError as error:
                raise DataError(f"{path}, line {number}: {_first(error)}") from error
            if record.index != number - 1:
                raise DataError(
                    f"{path}, line {number}: index is {record.index}, expected {number - 1}: lines "
                    "are missing, or out of order."
                )
            yield record


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(map(str, found["loc"]))
    return f"{f'field {field}: ' if field else ''}{found['msg']}; certify again, or copy it again."


def _check(folder: Path, summary: Summary, records: list[Point]) -> None:
    """What the summary counts must be what the lines say."""
    certified = sum(record.certified for record in records)
    claims: dict[str, tuple[float, float]] = {
        "points": (summary.points, len(records)),
        "certified": (summary.certified, certified),
    }
    if any(record.counts and not record.certified for record in records):
        raise DataError(
            f"{folder}: in {POINTS} a rejected point counts for the VRA; certify again."
        )
    if records:
        rejected = round(1 - certified / len(records), 9)
        claims["rejection_rate"] = (round(summary.rejection_rate, 9), rejected)
    if summary.figures is not None and records and records[0].counts is not None:
        share = sum(record.counts is True for record in records) / len(records)
        claims["figures.vra"] = (round(summary.figures.vra, 9), round(share, 9))
    for field, (claimed, found) in claims.items():
        if claimed != found:
            raise DataError(
                f"{folder}: {SUMMARY} says {field} is {claimed}, but {POINTS} has {found}: the "
                "files do not belong together, or one was changed; certify again."
            )


def _classes(folder: Path, summary: Summary, records: list[Point]) -> int:
    names = summary.class_names
    stated = summary.num_classes or (None if names is None else len(names))
    used = 1 + max(
        (
            max(r.prediction, r.label or 0, *r.set, *(r.strictest_set or ()), 0)
            for r in records
        ),
        default=-1,
    )  # fmt: skip
    classes = used if stated is None else stated
    lowest = min((min((*r.set, *(r.strictest_set or ()), 0)) for r in records), default=0)
    if used > classes or lowest < 0 or (names is not None and len(names) != classes):
        raise DataError(
            f"{folder}: {SUMMARY} names {classes} classes, but {POINTS} speaks of class "
            f"{used - 1 if used > classes else lowest}: the files do not belong together."
        )
    if classes * len(records) > _MOST_CELLS:
        raise DataError(
            f"{folder}: {len(records):,} points with {classes:,} classes are more than a report "
            "holds: certify and report on parts of the data."
        )
    return classes


def _counts(record: Point) -> bool:
    """Whether a point counts for the VRA; earlier versions did not write it."""
    return (
        (record.certified and record.label in record.set)
        if record.counts is None
        else record.counts
    )


def _label_radius(summary: Summary, records: list[Point]) -> Tensor | None:
    radius = torch.tensor([record.label_radius for record in records], dtype=torch.float64)
    if summary.prop.get("kind") == "local" and bool(radius.isnan().all()):
        # Without it in the file: the prediction is the set at every eps.
        own = [r.radius if r.prediction == r.label else 0.0 for r in records]
        return torch.tensor(own, dtype=torch.float64)
    return None if bool(radius.isnan().any()) else radius


def _printable(name: str) -> str:
    """A class name without control characters, which pages and pictures do not show."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in name)


def _mask(sets: list[list[int]], classes: int) -> Tensor:
    mask = torch.zeros(len(sets), classes, dtype=torch.bool)
    rows = [row for row, members in enumerate(sets) for _ in members]
    columns = [label for members in sets for label in members]
    mask[torch.tensor(rows, dtype=torch.int64), torch.tensor(columns, dtype=torch.int64)] = True
    return mask
