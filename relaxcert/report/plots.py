"""Plots as functions: each draws on the Axes it is given and returns it (extra ``[report]``)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relaxcert.errors import MissingExtra
from relaxcert.files import write_atomically
from relaxcert.heads.certificates import Certificates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's palette: distinguishable with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MANY = 15  # classes above which the map needs small print
_STYLES = ("-", "--", "-.", ":")


class MissingPlots(MissingExtra):
    """matplotlib is not installed."""


def new_figure(*, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with a row of axes, drawn without a display.

    Raises:
        MissingPlots: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPlots(
            "plots need matplotlib: pip install 'relaxcert[report]' (results are in JSON anyway)."
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, columns, squeeze=False)
    return figure, list(axes[0])


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG or SVG, by the suffix, atomically."""
    return write_atomically(path, lambda name: figure.savefig(name, dpi=144))


def vra_curve(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    ax: Axes,
    eps: float | None = None,
    unit: str = "l2",
) -> Axes:
    """VRA against eps, one line a network; ``curves[name] = (radii, shares)``."""
    for index, (name, (radii, shares)) in enumerate(curves.items()):
        colour, style = COLOURS[index % len(COLOURS)], _STYLES[index % len(_STYLES)]
        ax.plot(radii, shares, style, color=colour, label=name, linewidth=2)
    if eps is not None:
        ax.axvline(eps, color="0.6", linewidth=1)
        ax.annotate(
            f"eps = {eps:g}",
            (eps, 0.02),
            xytext=(4, 0),
            textcoords="offset points",
            color="0.35",
        )
    ax.set(xlabel=f"eps ({unit})", ylabel="verified-robust accuracy", ylim=(0, 1.02))
    ax.set_xlim(left=0)
    ax.grid(visible=True, color="0.9")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 0.08), framealpha=1.0, edgecolor="white")
    return ax


def grouped_together(certificates: Certificates) -> Tensor:
    """G[i, j]: how many points have both i and j in their strictest certified set; (C, C).

    On the diagonal: certified for class i alone.
    """
    sets = certificates.strictest_sets.cpu().long()
    together = sets.mT @ sets
    alone = (sets * (certificates.strictest_k.cpu() == 1)[:, None]).sum(0)
    return together.diagonal_scatter(alone)


def grouping_map(
    certificates: Certificates, class_names: Sequence[str], *, ax: Axes, title: str
) -> Axes:
    """Which classes had to be certified together, as counts of points."""
    together = grouped_together(certificates)
    off_diagonal = together - torch.diag(together.diagonal())
    shade = off_diagonal.double() / max(1, int(off_diagonal.max()))
    ax.imshow(shade.tolist(), cmap="Blues", vmin=0.0, vmax=1.4)
    size = len(class_names)
    small: dict[str, Any] = {"fontsize": 6} if size > _MANY else {}
    for i in range(size):
        for j in range(size):
            count = int(together[i, j])
            if count:
                weight = "bold" if i != j else "normal"
                dark = "white" if float(shade[i, j]) > 0.6 else "black"
                colour = "0.55" if i == j else dark
                ax.text(
                    j, i, str(count), ha="center", va="center", color=colour, weight=weight, **small
                )
    wrapped = [textwrap.fill(name, 14) for name in class_names]
    # Upright: slanted lines of a wrapped name run into those of its neighbour.
    ax.set_xticks(range(size), wrapped, rotation=0 if max(map(len, wrapped)) < 3 else 90, **small)
    ax.set_yticks(range(size), wrapped, **small)
    ax.set_xlabel("bold: both classes in the set; grey: certified for the class alone")
    ax.set_title(title)
    return ax


def exactness_scatter(
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, ax: Axes, unit: str = "l2"
) -> Axes:
    """Certified against exact radius, one dot a point; ``points[name] = (exact, certified)``.

    A dot above the diagonal would be an unsound certificate.
    """
    largest = 0.0
    for index, (name, (exact, certified)) in enumerate(points.items()):
        colour = COLOURS[index % len(COLOURS)]
        ax.plot(exact, certified, "o", color=colour, label=name, markersize=4, alpha=0.7)
        largest = max([largest, *exact, *certified])
    ax.plot([0, largest], [0, largest], "-", color="0.6", linewidth=1)
    ax.set(
        xlabel=f"exact radius ({unit})",
        ylabel=f"certified radius ({unit})",
        xlim=(0, largest * 1.02 or 1.0),
        ylim=(0, largest * 1.02 or 1.0),
    )
    ax.set_aspect("equal")
    ax.grid(visible=True, color="0.9")
    ax.legend(loc="upper left", framealpha=1.0, edgecolor="white")
    return ax
