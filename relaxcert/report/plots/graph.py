"""Which classes are certified together, as a graph on a circle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.report.plots.figure import Verdicts, axes_or_new, ink, short_names
from relaxcert.report.plots.grouping import (
    Sets,
    class_order,
    grouped_together,
    grouping_size,
    small_print,
)
from relaxcert.report.plots.palette import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MANY = 15  # classes above which labels need small print
_MOST_EDGES = 400
_THINNEST, _THICKEST = 0.4, 7.0  # points
_LANE = 0.055  # distance of the arcs of affinity sets that overlap


def grouping_graph(
    found: Verdicts | Tensor,
    class_names: Sequence[str],
    *,
    ax: Axes | None = None,
    title: str = "",
    sets: Sets | None = None,
    order: Sequence[int] | None = None,
) -> Axes:
    """Classes on a circle, joined by lines as wide as they are often certified together.

    Of very many pairs the 400 most frequent are drawn, and the title says so.

    Args:
        found: certificates, a run read from its files, or the counts themselves, (C, C).
        class_names: one a class.
        ax: where to draw; default: a new figure.
        title: above the graph.
        sets: affinity sets; an arc outside the circle joins the members of each.
        order: of the classes around the circle; default: :func:`class_order`.

    Raises:
        InvalidInput: names do not fit the classes.
    """
    together = found if isinstance(found, Tensor) else grouped_together(found)
    size = len(together)
    if len(class_names) != size:
        raise InvalidInput(f"class_names has {len(class_names)} names for {size} classes.")
    places = class_order(together, sets) if order is None else list(order)
    side = max(4.5, 0.06 * size + 3.0, 0.9 * grouping_size(size))
    ax = axes_or_new(ax, side, side)
    angles = torch.empty(size)
    angles[places] = math.pi / 2 - torch.arange(size) * (2 * math.pi / max(1, size))
    nodes = torch.stack((angles.cos(), angles.sin()), dim=1)
    drawn, pairs = _edges(ax, together, nodes)
    ring = _arcs(ax, sets, places, angles) if sets else 1.0
    alone = together.diagonal().double()
    areas = (12.0 + 60.0 * alone / max(1.0, float(alone.max()))) * (0.4 if size > _MANY else 1.0)
    x, y = nodes.T.tolist()
    ax.scatter(x, y, s=areas.tolist(), color=ink(), zorder=3, linewidths=0)
    _labels(ax, class_names, angles, ring + 0.07)
    ax.set_aspect("equal")
    ax.set_axis_off()
    note = "" if drawn == pairs else f"the {drawn} most frequent of {pairs:,} pairs"
    ax.set_title("\n".join(filter(None, (title, note))))
    return ax


def _edges(ax: Axes, together: Tensor, nodes: Tensor) -> tuple[int, int]:
    """Curves towards the centre; returns how many are drawn, of how many pairs."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    pairs = torch.nonzero(together.triu(1))
    counts = together[pairs[:, 0], pairs[:, 1]].double()
    chosen = counts.argsort(descending=True, stable=True)[:_MOST_EDGES].flip(0)
    curve = [Path.MOVETO, Path.CURVE3, Path.CURVE3]
    paths: list[Any] = []
    for first, second in pairs[chosen].tolist():
        a, b = nodes[first], nodes[second]
        # Neighbours bow a little; the further apart, the nearer the middle they pass.
        middle = (a + b) / 2
        apart = 2 * math.acos(min(1.0, float(middle.norm()))) / math.pi
        bend = middle * (1.0 - 0.9 * math.sqrt(apart))
        paths.append(Path([a.tolist(), bend.tolist(), b.tolist()], curve))
    share = counts[chosen] / max(1.0, float(counts.max()) if len(counts) else 1.0)
    widths = (_THINNEST + (_THICKEST - _THINNEST) * share).tolist()
    ax.add_collection(
        PathCollection(
            paths,
            facecolors="none",
            edgecolors=COLOURS[0],
            linewidths=widths,
            alpha=0.7,
            capstyle="round",
        )
    )
    return len(chosen), len(pairs)


def _arcs(ax: Axes, sets: Sets, places: Sequence[int], angles: Tensor) -> float:
    """An arc over the members of each set, in lanes that do not touch; the outermost radius."""
    from matplotlib.collections import LineCollection

    size = len(places)
    rank = {label: place for place, label in enumerate(places)}
    step = 2 * math.pi / size
    lanes: list[set[int]] = []
    lines: list[list[tuple[float, float]]] = []
    ticks: list[list[tuple[float, float]]] = []
    for members in sorted(sets, key=len):
        if len(members) < 2:
            continue
        span = _shortest_run(sorted(rank[label] for label in members), size)
        covered = {place % size for place in range(span[0], span[1] + 1)}
        free = (n for n, taken in enumerate(lanes) if not taken & covered)
        lane = next(free, len(lanes))
        lanes += [set()] * (lane == len(lanes))
        lanes[lane] = lanes[lane] | covered
        radius = 1.09 + _LANE * lane
        over = min(0.3 * step, 0.07)
        ends = (math.pi / 2 - step * span[0] + over, math.pi / 2 - step * span[1] - over)
        count = max(8, round(abs(ends[1] - ends[0]) / 0.04))
        turns = [ends[0] + (ends[1] - ends[0]) * i / count for i in range(count + 1)]
        lines.append([(radius * math.cos(turn), radius * math.sin(turn)) for turn in turns])
        if span[1] - span[0] + 1 == len(members):
            continue
        # The arc passes others: ticks tell whose it is.
        for label in members:
            x, y = float(angles[label].cos()), float(angles[label].sin())
            ticks.append([(x * (radius - 0.02), y * (radius - 0.02)), (x * radius, y * radius)])
    ax.add_collection(LineCollection([*lines, *ticks], colors="#D55E00", linewidths=2))
    return 1.0 if not lanes else 1.09 + _LANE * (len(lanes) - 1)


def _shortest_run(places: Sequence[int], size: int) -> tuple[int, int]:
    """The shortest stretch of a circle that holds all places; its end may exceed ``size``."""
    gaps = [
        (places[(i + 1) % len(places)] - place) % size or size for i, place in enumerate(places)
    ]
    widest = gaps.index(max(gaps))
    start = places[(widest + 1) % len(places)]
    return start, start + size - gaps[widest]


def _labels(ax: Axes, class_names: Sequence[str], angles: Tensor, radius: float) -> None:
    many = len(class_names) > _MANY
    names = short_names(class_names, width=22, lines=1) if many else short_names(class_names)
    for name, angle in zip(names, angles.tolist(), strict=True):
        x, y = math.cos(angle), math.sin(angle)
        flipped = x < -1e-6
        turn = math.degrees(angle) + (180 if flipped else 0)
        ax.text(
            x * radius, y * radius, name, fontsize=small_print(len(names)),
            rotation=turn if many else 0, rotation_mode="anchor",
            ha="right" if flipped else "left" if many or x > 1e-6 else "center",
            va="center" if many or abs(x) > 0.3 else "bottom" if y > 0 else "top",
        )  # fmt: skip
    # Room for the names, whose length is in points and not in units of the axes.
    longest = max((len(line) for name in names for line in name.split("\n")), default=0)
    inches = ax.get_window_extent().width / ax.figure.dpi / 2
    needed = min(0.5 * inches, 0.62 * longest * small_print(len(names)) / 72)
    reach = radius * inches / (inches - needed)
    height = reach if many else radius + 0.25
    ax.set(xlim=(-reach, reach), ylim=(-height, height))
