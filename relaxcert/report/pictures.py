"""The pictures of a run, drawn from its verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from relaxcert.report import plots
from relaxcert.report.curves import eps_grid, shares_at
from relaxcert.report.run import Run
from relaxcert.report.svg import Picture, picture
from relaxcert.report.wording import affinity_sets, eps_of, norm_of

MOST_CLASSES = 150  # that a map shows
_TICKS = (0.25, 0.5, 1.0, 1.5, 2.0)  # of eps, told in words


def eps_as_float(run: Run) -> float | None:
    """The radius that a run is about, if it is one."""
    eps = eps_of(run.summary.prop)
    return None if eps is None else float(eps)


def curves(run: Run, key: str) -> Picture | None:
    """VRA and certified share against eps; None where no radii are known."""
    if bool(run.radius.isnan().all()):
        return None
    eps = eps_as_float(run)
    grid = _grid(run, run.radius, eps)
    lines: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    if run.label_radius is not None:
        lines["VRA"] = grid.tolist(), shares_at(run.label_radius, grid).tolist()
    lines["certified"] = grid.tolist(), shares_at(run.radius, grid).tolist()
    alt = f"Shares against eps. {_told(run, eps)}"
    return picture(
        lambda ax: plots.vra_curve(
            lines, ax=ax, eps=eps, unit=_unit(run), ylabel="share of the points"
        ),
        key=key, alt=alt,
    )  # fmt: skip


def compared(runs: Mapping[str, Run], key: str) -> Picture | None:
    """The VRA of several runs against eps; of those that tell it."""
    known = {name: run for name, run in runs.items() if run.label_radius is not None}
    if len(known) < 2 or len({norm_of(run.summary.prop) for run in known.values()}) != 1:
        return None
    radii = torch.cat([run.label_radius for run in known.values() if run.label_radius is not None])
    marks = {eps_as_float(run) for run in known.values()}
    eps = marks.pop() if len(marks) == 1 else None
    grid = eps_grid(radii, eps)
    lines: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        name: (grid.tolist(), shares_at(run.label_radius, grid).tolist())
        for name, run in known.items()
        if run.label_radius is not None
    }
    told = " ".join(f"{name}: {_told(run, eps)}" for name, run in known.items())
    unit = _unit(next(iter(known.values())))
    return picture(
        lambda ax: plots.vra_curve(lines, ax=ax, eps=eps, unit=unit),
        key=key, alt=f"Verified-robust accuracy against eps, one line a run. {told}", width=7.0,
    )  # fmt: skip


def sizes(run: Run, key: str) -> Picture:
    """How large the certified sets are."""
    certified = run.certified
    told = ", ".join(
        f"{int((run.strictest_k[certified] == k).sum()):,} points of size {k}"
        for k in sorted(set(run.strictest_k[certified & (run.strictest_k > 0)].tolist()))[:10]
    )
    rejected = int((~certified).sum())
    alt = f"Bars: points by the size of their certified set. Strictest sets: {told or 'none'}; "
    return picture(
        lambda ax: plots.set_sizes(run, ax=ax), key=key, alt=f"{alt}{rejected:,} points rejected."
    )


def margins(run: Run, key: str) -> Picture:
    """How far the margins are from 0."""
    finite = run.margin[run.margin.isfinite()]
    middle = float(finite.median()) if len(finite) else math.nan
    return picture(
        lambda ax: plots.margins(run, correct=run.correct, ax=ax),
        key=key,
        alt=f"Histogram of the margins; half of them are below {middle:.3g}.",
    )


def grouping(run: Run, together: Tensor, key: str) -> tuple[Picture, Picture, int]:
    """Map and graph of the classes that are certified together, and how many classes they show."""
    classes = len(together)
    chosen = list(range(classes))
    if classes > MOST_CLASSES:
        busy = (together - torch.diag(together.diagonal())).sum(1)
        chosen = sorted(busy.argsort(descending=True, stable=True)[:MOST_CLASSES].tolist())
    place = {label: number for number, label in enumerate(chosen)}
    shown = together[chosen][:, chosen]
    names = [run.class_names[label] for label in chosen]
    stated = affinity_sets(run.summary.prop)
    sets = None
    if stated is not None:
        sets = [[place[label] for label in members if label in place] for members in stated]
        sets = [members for members in sets if members]
    order = plots.class_order(shown, sets)
    side = plots.grouping_size(len(chosen))
    alt = _grouping_told(run, together)
    matrix = picture(
        lambda ax: plots.grouping_map(shown, names, ax=ax, sets=sets, order=order),
        key=f"{key}m", alt=f"Matrix of the classes certified together. {alt}",
        width=side + 0.8, height=side + 0.6,
    )  # fmt: skip
    graph = picture(
        lambda ax: plots.grouping_graph(shown, names, ax=ax, sets=sets, order=order),
        key=f"{key}g", alt=f"Graph of the classes certified together. {alt}",
        width=max(5.4, 0.9 * side), height=max(4.4, 0.9 * side),
    )  # fmt: skip
    return matrix, graph, len(chosen)


def most_frequent_pairs(together: Tensor, most: int) -> list[tuple[int, int, int]]:
    """(class, class, points), the most frequent first."""
    pairs = torch.nonzero(together.triu(1))
    counts = together[pairs[:, 0], pairs[:, 1]]
    chosen = counts.argsort(descending=True, stable=True)[:most]
    return [(a, b, int(together[a, b])) for a, b in pairs[chosen].tolist()]


def _grouping_told(run: Run, together: Tensor) -> str:
    found = most_frequent_pairs(together, 3)
    names = run.class_names
    told = "; ".join(f"{names[a]} with {names[b]}, {n:,} points" for a, b, n in found)
    return f"Most often: {told}." if told else "No two classes are certified together."


def _grid(run: Run, radius: Tensor, eps: float | None) -> Tensor:
    grid = eps_grid(radius, eps)
    # At level D nothing is known beyond the certified eps.
    return grid[grid <= eps] if eps is not None and run.summary.level.startswith("D") else grid


def _told(run: Run, eps: float | None) -> str:
    """A curve in words."""
    if eps is None:
        return ""
    radius = run.radius if run.label_radius is None else run.label_radius
    name = "certified share" if run.label_radius is None else "VRA"
    last = 1.0 if run.summary.level.startswith("D") else max(_TICKS)
    ticks = torch.tensor([eps * tick for tick in _TICKS if tick <= last], dtype=torch.float64)
    shares = zip(ticks.tolist(), shares_at(radius, ticks).tolist(), strict=True)
    return f"{name}: " + ", ".join(f"{share:.3f} at eps {at:.3g}" for at, share in shares) + "."


def _unit(run: Run) -> str:
    return f"{norm_of(run.summary.prop) or 'each ball'}, units of the input"
