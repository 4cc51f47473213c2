"""The panels that are more than ``decision_regions``: data, legend, names, differences."""

import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from networks import CENTRES, EXTENT, NAMES

from relaxcert import GloRoNet
from relaxcert.data.landsat import Split
from relaxcert.report.plots import COLOURS

_WHITE = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}


def draw_data(ax: Axes, data: Split, each: int = 300) -> None:
    """Some points of each class."""
    for label in range(4):
        x, y = data.inputs[data.labels == label][:each].T
        ax.plot(x, y, ".", color=COLOURS[label], markersize=3)
    ax.set(xlim=EXTENT[:2], ylim=EXTENT[2:])


def name_classes(ax: Axes, *, alone: bool = True, pairs: str = "") -> None:
    """Letters where the classes lie, and {A,B} where two of them overlap."""
    for name, place in zip(NAMES if alone else (), CENTRES.tolist(), strict=False):
        ax.text(*place, name, weight="bold", size=12, ha="center", va="center", bbox=_WHITE)
    for first in (NAMES.index(pair) for pair in pairs):
        middle = CENTRES[first : first + 2].mean(0).tolist()
        text = f"{{{NAMES[first]},{NAMES[first + 1]}}}"
        ax.text(*middle, text, size=9, ha="center", va="center", bbox=_WHITE)


def mark_difference(
    ax: Axes, net: GloRoNet, other: GloRoNet, extent: tuple[float, ...], side: int
) -> int:
    """Black: certified by ``net`` and not by ``other``; returns how many grid points that are."""
    across, upwards = torch.linspace(*extent[:2], side), torch.linspace(*extent[2:], side)
    y, x = torch.meshgrid(upwards, across, indexing="ij")
    grid = torch.stack([x, y], dim=2).reshape(-1, 2)
    more = net.certify(grid).certified & ~other.certify(grid).certified
    shape = more.double().reshape(side, side)
    ax.contourf(x.numpy(), y.numpy(), shape.numpy(), levels=[0.5, 1.5], colors="black")
    return int(more.sum())


def draw_legend(ax: Axes) -> None:
    """What the colours mean."""
    pale = [[0.55 * part + 0.45 for part in to_rgb(colour)] for colour in COLOURS[:4]]
    handles = [
        Patch(facecolor=pale[label], label=f"certified: class {name} on the whole ball")
        for label, name in enumerate(NAMES)
    ]
    handles += [
        Patch(
            facecolor=pale[0], edgecolor=pale[1], hatch="////", label="certified: A or B, no other"
        ),
        Patch(facecolor="0.85", edgecolor="black", hatch="////", label="rejected"),
        Patch(facecolor="black", label="certified, but by no single k"),
    ]
    ax.axis("off")
    ax.legend(handles=handles, loc="center left", frameon=False, fontsize=11, handleheight=1.4)
