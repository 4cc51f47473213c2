"""Networks of two inputs: the plane coloured by what is certified, and balls on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.report.plots.figure import axes_or_new, ink
from relaxcert.report.plots.palette import COLOURS
from relaxcert.spec.ball import Ball

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FINE = 3  # pixels of the picture a grid point
_STRIPE = 8  # pixels
_PALE = 0.45  # how much white a region gets, so that points on it stand out


def decision_regions(
    net: GloRoNet,
    extent: tuple[float, float, float, float],
    *,
    ax: Axes | None = None,
    side: int = 160,
    show: str = "strictest",
    hatch_rejected: bool = True,
) -> Axes:
    """The plane coloured by the strictest certified set at each point (Figure 2).

    A set of one class has its colour, a larger one stripes in those of its members; where nothing
    is certified the plane is grey and hatched. Points that are certified without a set (pointwise
    and targeted properties) have the colours of the classes that may be predicted, or, where those
    are not told, that of the prediction.

    Args:
        net: a network of two inputs; class i has the colour ``COLOURS[i % 7]``.
        extent: left, right, bottom, top, in units of the input.
        ax: where to draw; default: a new figure.
        side: grid points a side; each is certified.
        show: ``"strictest"`` or ``"loosest"`` certified set, or ``"prediction"``.
        hatch_rejected: False leaves rejected regions grey.

    Raises:
        InvalidInput: an unknown ``show``, an empty extent, and what ``certify`` raises.
    """
    if show not in ("strictest", "loosest", "prediction"):
        raise InvalidInput(f"show={show!r} must be 'strictest', 'loosest' or 'prediction'.")
    left, right, bottom, top = extent
    if not (left < right and bottom < top and side > 1):
        raise InvalidInput(f"extent={extent!r}, side={side!r}: give left < right, bottom < top.")
    ax = axes_or_new(ax, 5.0, 5.0)
    x, y = np.meshgrid(np.linspace(left, right, side), np.linspace(bottom, top, side))
    grid = torch.from_numpy(np.stack([x.reshape(-1), y.reshape(-1)], axis=1))
    device = next(net.backbone.parameters(), torch.empty(0)).device
    certificates = net.certify(grid.to(device))
    members = _members(certificates, show).reshape(side, side, -1)
    ax.imshow(
        striped(members.numpy()), extent=extent, origin="lower", interpolation="nearest",
        aspect="auto",
    )  # fmt: skip
    rejected = ~members.any(2)
    if hatch_rejected and bool(rejected.any()):
        ax.contourf(
            x, y, rejected.double().numpy(), levels=[0.5, 1.5], colors="none", hatches=["////"]
        )
    ax.set(xlim=(left, right), ylim=(bottom, top))
    return ax


def _members(certificates: Certificates, show: str) -> Tensor:
    """Which classes each point is coloured by, (points, classes) bool; none: rejected."""
    predicted = torch.nn.functional.one_hot(
        certificates.prediction, certificates.logits.shape[1]
    ).bool()
    if show == "prediction":
        return predicted.cpu()
    sets = certificates.strictest_sets if show == "strictest" else certificates.sets
    sets = torch.where(sets.any(1, keepdim=True), sets, certificates.sets)
    without = certificates.certified & ~sets.any(1)
    return torch.where(without[:, None], predicted, sets).cpu()


def striped(members: np.ndarray) -> np.ndarray:
    """Colours of a picture: (height, width, classes) bool -> (3 height, 3 width, 3) in 0..1."""
    from matplotlib.colors import to_rgb

    height, width, classes = members.shape
    palette = np.array([to_rgb(COLOURS[label % len(COLOURS)]) for label in range(classes)])
    fine = members.repeat(_FINE, axis=0).repeat(_FINE, axis=1)
    count = fine.sum(2)
    rows, columns = np.indices((height * _FINE, width * _FINE))
    turn = ((rows + columns) // _STRIPE) % np.maximum(count, 1)
    # The turn-th of the members: where their running count first exceeds it.
    chosen = ((fine.cumsum(2) > turn[:, :, None]) & fine).argmax(2)
    colours = palette[chosen] * (1 - _PALE) + _PALE
    colours[count == 0] = 0.85
    return colours


def draw_ball(
    centre: Sequence[float], ball: Ball, *, ax: Axes, label: str = "", colour: str | None = None
) -> Axes:
    """The ball of a property around a point of the plane: circle, square or diamond.

    Args:
        centre: two numbers.
        ball: as in ``prop.balls``; eps in units of the input.
        ax: where to draw.
        label: written beside the ball.
        colour: default: that of writing.
    """
    from matplotlib.patches import Circle, Polygon

    eps = float(ball.eps)
    x, y = (float(number) for number in centre)
    colour = ink() if colour is None else colour
    corners = {
        "linf": [(x - eps, y - eps), (x + eps, y - eps), (x + eps, y + eps), (x - eps, y + eps)],
        "l1": [(x - eps, y), (x, y - eps), (x + eps, y), (x, y + eps)],
    }
    shape = (
        Circle((x, y), eps, fill=False, edgecolor=colour, linewidth=1.5)
        if ball.norm == "l2"
        else Polygon(corners[ball.norm], fill=False, edgecolor=colour, linewidth=1.5)
    )
    ax.add_patch(shape)
    ax.plot([x], [y], ".", color=colour, markersize=5)
    if label:
        ax.annotate(label, (x + eps, y), xytext=(3, 0), textcoords="offset points", va="center")
    return ax
