"""Which points to look at: those on the edge of the guarantee, and those that surprise."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxcert.report.run import Run

EACH = 8
_MOST_NUMBERS, _MOST_BARS = 8, 128


@dataclass(frozen=True)
class Features:
    """Numbers of a point as bars: each from 0 to 1 between the data's lowest and highest.

    ``bands``: where the middle nine tenths of the data lie, likewise.
    """

    bars: tuple[float, ...] = ()
    bands: tuple[tuple[float, float], ...] = ()
    numbers: str = ""
    image: str = ""


@dataclass(frozen=True)
class Example:
    """One point, with what is known of it."""

    index: int
    prediction: str
    label: str
    label_rank: int
    certified: bool
    members: tuple[str, ...]
    margin: float
    radius: float
    features: Features | None


@dataclass(frozen=True)
class Group:
    """Points that are worth a look for one reason."""

    title: str
    why: str
    examples: tuple[Example, ...]


def groups_of(run: Run, inputs: Tensor | None, *, each: int = EACH) -> list[Group]:
    """The groups of a run; ``inputs`` (points, ...) if the data are at hand."""
    order = run.radius if bool(run.radius.isfinite().any()) else run.margin
    usable = ~order.isnan()
    chosen = [
        (
            "Only just certified",
            "The certified points with the smallest radius: a slightly larger ball and they are "
            "rejected.",
            _first(order, run.certified & usable, each),
        ),
        (
            "Only just rejected",
            "The rejected points with the largest radius: they would be certified on a slightly "
            "smaller ball.",
            _first(-order, ~run.certified & usable, each),
        ),
    ]
    if run.correct is not None:
        chosen.append(
            (
                "Most surprising: certified, and the label is elsewhere",
                "The label lies outside the certified set, largest radius first: stable and wrong, "
                "or a label worth checking.",
                _first(-order, run.certified & ~run.correct & usable, each),
            )
        )
    return [
        Group(title, why, tuple(_example(run, row, inputs) for row in rows))
        for title, why, rows in chosen
    ]


def _first(order: Tensor, chosen: Tensor, each: int) -> list[int]:
    rows = torch.nonzero(chosen).flatten()
    return rows[order[rows].argsort(stable=True)[:each]].tolist()


def _example(run: Run, row: int, inputs: Tensor | None) -> Example:
    names = run.class_names
    return Example(
        index=row,
        prediction=names[int(run.prediction[row])],
        label="" if run.labels is None else names[int(run.labels[row])],
        label_rank=0 if run.label_ranks is None else int(run.label_ranks[row]),
        certified=bool(run.certified[row]),
        members=tuple(names[label] for label in torch.nonzero(run.sets[row]).flatten().tolist()),
        margin=float(run.margin[row]),
        radius=float(run.radius[row]),
        features=None if inputs is None else _features(inputs, row),
    )


def _features(inputs: Tensor, row: int) -> Features | None:
    point = inputs[row].detach().double().cpu()
    if point.dim() == 3 and point.shape[0] in (1, 3):
        return Features(image=_png(point))
    flat = inputs.detach().flatten(1)
    if flat.shape[1] <= _MOST_NUMBERS:
        return Features(numbers=", ".join(f"{value:.4g}" for value in point.flatten().tolist()))
    if flat.shape[1] > _MOST_BARS:
        return None
    sample = flat[:: max(1, len(flat) // 5000)].double().cpu()
    low, high = sample.amin(0), sample.amax(0)
    span = (high - low).clamp(min=1e-300)
    band = ((torch.quantile(sample, torch.tensor([0.05, 0.95]).double(), dim=0) - low) / span).T
    bars = ((point.flatten() - low) / span).clamp(0, 1)
    return Features(tuple(bars.tolist()), tuple(map(_pair, band.tolist())))


def _pair(values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    return low, high


def _png(image: Tensor) -> str:
    """A data URI; (channels, height, width), stretched to 0..1 if it is not inside."""
    from matplotlib.image import imsave

    low, high = float(image.min()), float(image.max())
    if low < 0.0 or high > 1.0:
        image = (image - low) / max(high - low, 1e-300)
    pixels = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    imsave(file, pixels.clip(0, 1), format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
