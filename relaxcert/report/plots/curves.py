"""Curves against eps, and certified against exact radius."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from relaxcert.report.plots.figure import axes_or_new, ink, light_grid
from relaxcert.report.plots.palette import COLOURS, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def vra_curve(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    ax: Axes | None = None,
    eps: float | None = None,
    unit: str = "l2",
    ylabel: str = "verified-robust accuracy",
) -> Axes:
    """VRA (or any share) against eps, one line a network; ``curves[name] = (radii, shares)``.

    Args:
        curves: radii in units of the input, shares in 0..1.
        ax: where to draw; default: a new figure.
        eps: the radius that is marked.
        unit: norm and units of the input, for the label.
        ylabel: what the shares are.
    """
    ax = axes_or_new(ax, 6.0, 4.0)
    for index, (name, (radii, shares)) in enumerate(curves.items()):
        colour, style = look(index)
        ax.plot(radii, shares, style, color=colour, label=name, linewidth=2)
    ax.set(xlabel=f"eps ({unit})", ylabel=ylabel, ylim=(0, 1.02))
    ax.set_xlim(left=0)
    if eps is not None:
        ax.axvline(eps, color=ink(), alpha=0.45, linewidth=1)
        # To the left of the line where its right is short of room.
        left = eps > 0.75 * ax.get_xlim()[1]
        ax.annotate(
            f"eps = {eps:g}",
            (eps, 0.02),
            xytext=(-4 if left else 4, 0),
            textcoords="offset points",
            ha="right" if left else "left",
        )
    light_grid(ax)
    if curves:
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 0.08), framealpha=0.8, edgecolor="none")
    return ax


def exactness_scatter(
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    ax: Axes | None = None,
    unit: str = "l2",
) -> Axes:
    """Certified against exact radius, one dot a point; ``points[name] = (exact, certified)``.

    A dot above the diagonal would be an unsound certificate.
    """
    ax = axes_or_new(ax, 4.5, 4.5)
    largest = 0.0
    for index, (name, (exact, certified)) in enumerate(points.items()):
        colour = COLOURS[index % len(COLOURS)]
        ax.plot(exact, certified, "o", color=colour, label=name, markersize=4, alpha=0.7)
        largest = max([largest, *exact, *certified])
    ax.plot([0, largest], [0, largest], "-", color=ink(), alpha=0.4, linewidth=1)
    ax.set(
        xlabel=f"exact radius ({unit})",
        ylabel=f"certified radius ({unit})",
        xlim=(0, largest * 1.02 or 1.0),
        ylim=(0, largest * 1.02 or 1.0),
    )
    ax.set_aspect("equal")
    light_grid(ax)
    ax.legend(loc="upper left", framealpha=0.8, edgecolor="none")
    return ax
