"""How large the certified sets are, and how far the margins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relaxcert.report.plots.figure import Verdicts, axes_or_new, light_grid
from relaxcert.report.plots.palette import COLOURS, REJECTED, RIGHT, WRONG

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NUMBERED = 12  # bars up to which each tells its count
_TAILS = 0.002  # share of the points on either side that the outermost bins take up


def set_sizes(verdicts: Verdicts, *, ax: Axes | None = None) -> Axes:
    """Points by the size of their strictest and of their loosest certified set.

    Bars of the two stand side by side; the rejected points have a hatched bar of their own, as have
    points that are certified without a single set (pointwise and targeted properties).
    """
    ax = axes_or_new(ax, 6.0, 3.5)
    certified = verdicts.certified.cpu()
    strictest, loosest = verdicts.strictest_k.cpu()[certified], verdicts.k.cpu()[certified]
    sizes = sorted({*strictest[strictest > 0].tolist(), *loosest[loosest > 0].tolist()})
    for offset, colour, name, found in (
        (-0.2, COLOURS[0], "strictest set", strictest),
        (0.2, COLOURS[4], "loosest set", loosest),
    ):
        counts = [int((found == size).sum()) for size in sizes]
        places = [place + offset for place in range(len(sizes))]
        bars = ax.bar(places, counts, 0.38, color=colour, label=name)
        if len(sizes) <= _NUMBERED:
            ax.bar_label(bars, [f"{n:,}" if n else "" for n in counts], padding=2, fontsize=8)
    labels = [str(size) for size in sizes]
    others = {"no one\nset": int((loosest == 0).sum()), "rejected": int((~certified).sum())}
    for name, count in others.items():
        if count or name == "rejected":
            bars = ax.bar(len(labels), count, 0.6, color=REJECTED, hatch="///", edgecolor="white")
            ax.bar_label(bars, [f"{count:,}"], padding=2, fontsize=8)
            labels.append(name)
    ax.set_xticks(range(len(labels)), labels)
    ax.set(xlabel="classes in the certified set", ylabel="points")
    ax.margins(y=0.12)
    light_grid(ax, "y")
    if sizes:
        ax.legend(frameon=False)
    return ax


def margins(
    verdicts: Verdicts,
    *,
    correct: Tensor | None = None,
    ax: Axes | None = None,
    bins: int = 60,
) -> Axes:
    """A histogram of the margins: positive is certified.

    Args:
        verdicts: certificates, or a run read from its files.
        correct: (batch,) bool, which points count for the VRA
            (:func:`relaxcert.metrics.certified_and_correct`); certified points are then told apart.
        ax: where to draw; default: a new figure.
        bins: the number of bins; the outermost hold all beyond them, and 0 is an edge.
    """
    ax = axes_or_new(ax, 6.0, 3.5)
    margin = verdicts.margin.cpu().double()
    usable = margin.isfinite()
    certified = verdicts.certified.cpu()
    edges = _edges(margin[usable], bins)
    groups: list[tuple[str, Tensor, str, str]] = [("rejected", ~certified, REJECTED, "///")]
    if correct is None:
        groups.append(("certified", certified, RIGHT, ""))
    else:
        counts = correct.cpu() & certified
        groups.append(("certified, label not in the set", certified & ~counts, WRONG, "\\\\\\"))
        groups.append(("certified, label in the set", counts, RIGHT, ""))
    below = torch.zeros(len(edges) - 1)
    widths = (edges[1:] - edges[:-1]).tolist()
    for name, chosen, colour, hatch in groups:
        values = margin[usable & chosen].clamp(float(edges[0]), float(edges[-1]))
        heights = torch.histogram(values, edges).hist.float()
        ax.bar(
            edges[:-1].tolist(), heights.tolist(), widths, bottom=below.tolist(), align="edge",
            color=colour, label=name, hatch=hatch, edgecolor="white", linewidth=0.2,
        )  # fmt: skip
        below += heights
    ax.set(xlabel="margin of the property (logit units; certified above 0)", ylabel="points")
    ax.margins(x=0.01)
    light_grid(ax, "y")
    ax.legend(frameon=False)
    left_out = int((~usable).sum())
    if left_out:
        ax.set_title(f"{left_out:,} points without a finite margin not shown", fontsize=9)
    return ax


def _edges(values: Tensor, bins: int) -> Tensor:
    """Equal bins over all but the tails, with an edge at 0; (bins + 1 or 2,), ascending."""
    if not len(values):
        return torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    ranked = values.sort().values
    tail = int(_TAILS * len(ranked))
    low, high = min(0.0, float(ranked[tail])), max(0.0, float(ranked[-1 - tail]))
    width = (high - low) / bins or 1.0
    before, after = -int(low / width - 0.999), int(high / width + 0.999)
    steps = torch.arange(-before, max(after, 1 - before) + 1, dtype=torch.float64)
    return steps * width
