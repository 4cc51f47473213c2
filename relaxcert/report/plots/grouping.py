"""Which classes are certified together: counts, an order that shows it, and the map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.report.plots.figure import Verdicts, axes_or_new, ink, short_names
from relaxcert.report.plots.palette import shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Sets = Sequence[Sequence[int]]

_MANY = 15  # classes above which the map needs small print
_MOST_NUMBERED = 32  # classes above which counts are shown by shade alone
_VERY_MANY = 40  # classes above which they need the smallest
_ROW, _SMALL_ROW = 0.2, 0.105  # inches that a row with small print needs, and with the smallest
_ROWS_AT_A_TIME = 65_536


def grouped_together(verdicts: Verdicts) -> Tensor:
    """G[i, j]: how many points have both i and j in their strictest certified set; (C, C).

    On the diagonal: certified for class i alone.
    """
    sets, alone = verdicts.strictest_sets.cpu(), verdicts.strictest_k.cpu() == 1
    classes = sets.shape[1]
    together = torch.zeros(classes, classes, dtype=torch.float64)
    single = torch.zeros(classes, dtype=torch.int64)
    for start in range(0, len(sets), _ROWS_AT_A_TIME):
        rows = sets[start : start + _ROWS_AT_A_TIME].double()  # whole numbers stay exact
        together += rows.mT @ rows
        single += rows[alone[start : start + _ROWS_AT_A_TIME]].sum(0).long()
    return together.long().diagonal_scatter(single)


def class_order(together: Tensor, sets: Sets | None = None) -> list[int]:
    """An order of the classes in which those that are grouped, or may be, stand side by side.

    Leaves of an average-linkage tree, in the order of Bar-Joseph, Gifford and Jaakkola (2001).

    Args:
        together: (C, C) counts of :func:`grouped_together`.
        sets: affinity sets, which weigh more than any count.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    classes = len(together)
    if classes < 3:
        return list(range(classes))
    near = together.double() / max(1.0, float(_off_diagonal(together).max()))
    near += _may_be_grouped(sets, classes).double()
    # A trace of the natural order decides where nothing else does.
    place = torch.arange(classes, dtype=torch.float64)
    far = 2.1 - near + (place[:, None] - place).abs() * (0.05 / classes)
    distances = squareform(far.fill_diagonal_(0.0).numpy(), checks=False)
    return [int(leaf) for leaf in leaves_list(linkage(distances, "average", optimal_ordering=True))]


def grouping_size(classes: int) -> float:
    """Side in inches at which the labels of a grouping map of so many classes do not touch."""
    return max(4.2, (_ROW if classes <= _VERY_MANY else _SMALL_ROW) * classes + 1.6)


def small_print(classes: int) -> float:
    """The size of class names, in points, where there are so many classes."""
    return 9.0 if classes <= _MANY else 7.5 if classes <= _VERY_MANY else 5.5


def grouping_map(
    found: Verdicts | Tensor,
    class_names: Sequence[str],
    *,
    ax: Axes | None = None,
    title: str = "",
    sets: Sets | None = None,
    order: Sequence[int] | None = None,
) -> Axes:
    """Which classes had to be certified together, as counts of points.

    Args:
        found: certificates, a run read from its files, or the counts themselves, (C, C).
        class_names: one a class.
        ax: where to draw; default: a new figure of :func:`grouping_size`.
        title: above the map.
        sets: affinity sets; the cells whose two classes share one are outlined.
        order: of the classes, such as :func:`class_order` gives; default: as they are numbered.

    Raises:
        InvalidInput: names or order do not fit the classes.
    """
    together = found if isinstance(found, Tensor) else grouped_together(found)
    size = len(together)
    places = _checked_order(order, size)
    if len(class_names) != size:
        raise InvalidInput(f"class_names has {len(class_names)} names for {size} classes.")
    side = grouping_size(size)
    ax = axes_or_new(ax, side + 1.0, side + 0.6)
    shown = together[places][:, places]
    off_diagonal = _off_diagonal(shown)
    masked = np.ma.masked_equal(off_diagonal.numpy(), 0)
    ax.imshow(masked, cmap=shades(), vmin=0, vmax=max(1, int(off_diagonal.max())))
    if size <= _MOST_NUMBERED:
        _write_counts(ax, shown)
    elif size:
        _mark_alone(ax, shown)
    _label(ax, [class_names[label] for label in places])
    if sets is not None:
        _outline(ax, _may_be_grouped(sets, size)[places][:, places])
    ax.set_title(title)
    return ax


def _checked_order(order: Sequence[int] | None, size: int) -> list[int]:
    places = list(range(size)) if order is None else list(order)
    if sorted(places) != list(range(size)):
        raise InvalidInput(f"order={places!r:.80} must hold each of the {size} classes once.")
    return places


def _off_diagonal(together: Tensor) -> Tensor:
    return together - torch.diag(together.diagonal())


def _may_be_grouped(sets: Sets | None, classes: int) -> Tensor:
    """(C, C) bool: which pairs share an affinity set, each class with itself."""
    shared = torch.eye(classes, dtype=torch.bool)
    for members in sets or ():
        chosen = torch.tensor(list(members))
        shared[chosen[:, None], chosen] = True
    return shared


def _write_counts(ax: Axes, together: Tensor) -> None:
    size = len(together)
    for i in range(size):
        for j in range(size):
            count = int(together[i, j])
            if count:
                ax.text(
                    j, i, str(count), ha="center", va="center", color=ink(),
                    weight="bold" if i != j else "normal", alpha=1.0 if i != j else 0.6,
                    fontsize=_font(size, str(count)),
                )  # fmt: skip
    ax.set_xlabel("bold: both classes in the set; thin: certified for the class alone")


def _font(size: int, text: str) -> float:
    """Points that let a count stay inside its cell."""
    return 9.0 if size <= _MANY else {1: 7.0, 2: 7.0, 3: 6.0, 4: 4.5}.get(len(text), 3.6)


def _mark_alone(ax: Axes, together: Tensor) -> None:
    """Dots on the diagonal, larger for more points certified for the class alone."""
    alone = together.diagonal().double()
    area = (alone / max(1.0, float(alone.max())) * 12.0).tolist()
    ax.scatter(range(len(area)), range(len(area)), s=area, color=ink(), alpha=0.6, linewidths=0)
    ax.set_xlabel("shade: both classes in the set; dot: certified for the class alone")


def _label(ax: Axes, names: Sequence[str]) -> None:
    size = len(names)
    many = size > _MANY
    wrapped = short_names(names, width=22, lines=1) if many else short_names(names)
    small: dict[str, Any] = {"fontsize": small_print(size)} if many else {}
    # Upright: slanted lines of a wrapped name run into those of its neighbour.
    upright = max((len(name) for name in wrapped), default=0) >= 3
    ax.set_xticks(range(size), wrapped, rotation=90 if upright else 0, **small)
    ax.set_yticks(range(size), wrapped, **small)
    ax.tick_params(length=0 if many else 3, pad=1 if many else 3)


def _outline(ax: Axes, allowed: Tensor) -> None:
    """Lines around the cells whose pairs of classes may be grouped."""
    from matplotlib.collections import LineCollection

    size = len(allowed)
    padded = torch.zeros(size + 2, size + 2, dtype=torch.bool)
    padded[1:-1, 1:-1] = allowed
    lines: list[list[tuple[float, float]]] = []
    for row, column in torch.nonzero(padded[1:] != padded[:-1]).tolist():
        lines.append([(column - 1.5, row - 0.5), (column - 0.5, row - 0.5)])
    for row, column in torch.nonzero(padded[:, 1:] != padded[:, :-1]).tolist():
        lines.append([(column - 0.5, row - 1.5), (column - 0.5, row - 0.5)])
    ax.add_collection(
        LineCollection(lines, colors="#D55E00", linewidths=1.2 if size > _MANY else 2)
    )
    ax.set(xlim=(-0.6, size - 0.4), ylim=(size - 0.4, -0.6))
