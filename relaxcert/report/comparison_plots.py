"""The pictures of a comparison: rejection by class, sizes of sets, points with their sets."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relaxcert.heads.certificates import Certificates
from relaxcert.report.comparison import Comparison
from relaxcert.report.plots import COLOURS, new_figure, save
from relaxcert.report.plots.figure import light_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BARS = 40  # classes; of more, those that differ most
_HATCHES = ("", "///")
_WIDE = 22  # letters of a line under a point


def overview(comparison: Comparison, names: tuple[str, str], path: str | Path) -> Path:
    """Rejection by class (sections 6.2, 6.3) and the sizes of the strictest certified sets."""
    lines = [line for line in comparison.classes if line.points]
    differ = sorted(lines, key=lambda line: abs(line.rejected[0].share - line.rejected[1].share))
    shown = [line for line in lines if line in differ[-_MOST_BARS:]]
    figure, (left, right) = new_figure(
        columns=2, width=11.0, height=max(3.6, 0.32 * len(shown) + 1.2)
    )
    for index, name in enumerate(names):
        offset = 0.2 if index else -0.2
        places = [place + offset for place in range(len(shown))]
        shares = [line.rejected[index].share for line in shown]
        style: dict[str, Any] = {"color": COLOURS[index], "hatch": _HATCHES[index], "label": name}
        left.barh(places, shares, 0.38, edgecolor="white", linewidth=0.3, **style)
        sizes = comparison.strictest_sizes[index]
        total = max(1, sum(sizes))
        heights = [count / total for count in sizes]
        places = [size + offset for size in range(len(sizes))]
        right.bar(places, heights, 0.38, edgecolor="white", linewidth=0.3, **style)
        for place, count in zip(places, sizes, strict=True):
            if count:
                right.annotate(
                    f"{count:,}", (place, count / total), ha="center", va="bottom", fontsize=7
                )
    left.set_yticks(range(len(shown)), [textwrap.shorten(line.name, 28) for line in shown])
    left.margins(y=0.01)
    left.invert_yaxis()
    most = (
        "" if len(shown) == len(lines) else f" (the {len(shown)} of {len(lines)} that differ most)"
    )
    left.set(
        xlabel="share of the class's points that is rejected", title=f"rejection by class{most}"
    )
    longest = max(len(sizes) for sizes in comparison.strictest_sizes)
    right.set_xticks(range(longest), ["none", *map(str, range(1, longest))])
    right.set(xlabel="classes in the strictest certified set", ylabel="share of all points")
    right.set_title("sizes of certified sets")
    right.margins(y=0.12)
    left.set_xlim(0.0, max(0.05, *left.get_xlim()))
    light_grid(left, "x")
    light_grid(right, "y")
    right.legend(loc="upper right", frameon=False)
    return save(figure, Path(path))


def points_with_sets(
    comparison: Comparison,
    pair: tuple[Certificates, Certificates],
    inputs: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    path: str | Path,
) -> Path | None:
    """The examples, one kind a row, each with label and certified sets (Figures 3 to 6).

    Images (points, channels, height, width) in [0, 1] are shown as they are; other points as the
    line of their features, beside the mean of the points of their class. None without examples.
    """
    kinds = {name: rows for name, rows in comparison.examples.items() if rows}
    if not kinds:
        return None
    columns = max(map(len, kinds.values()))
    images = inputs.dim() == 4 and inputs.shape[1] in (1, 3)
    tall = 3.3 if images else 2.9
    means = {} if images else _means(inputs, labels)
    figure, _ = new_figure(columns=1, width=1.95 * columns + 0.3, height=tall * len(kinds))
    figure.clear()
    parts: Any = figure.subfigures(len(kinds), 1, squeeze=False)
    for (name, rows), part in zip(kinds.items(), parts[:, 0], strict=True):
        part.suptitle(name, fontsize=10, ha="left", x=0.01)
        axes: Sequence[Axes] = part.subplots(1, columns, squeeze=False)[0]
        for ax in axes:
            ax.set_axis_off()
        for ax, row in zip(axes, rows, strict=False):
            ax.set_axis_on()
            if images:
                _picture(ax, inputs[row])
            else:
                _features(ax, inputs[row], means[int(labels[row])])
            ax.set_xlabel(_caption(pair, row, int(labels[row]), class_names), fontsize=7)
            ax.set_title(f"{_named(class_names[int(labels[row])])} (#{row})", fontsize=7.5)
    return save(figure, Path(path))


def _picture(ax: Axes, image: Tensor) -> None:
    pixels = image.float().clamp(0.0, 1.0).expand(3, -1, -1).permute(1, 2, 0)
    ax.imshow(pixels.cpu().numpy(), interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])


def _features(ax: Axes, point: Tensor, mean: Tensor) -> None:
    ax.plot(mean.flatten().tolist(), "--", color="0.6", linewidth=1)
    ax.plot(point.flatten().tolist(), "-", color=COLOURS[0], linewidth=1.2)
    ax.set_xticks([])
    ax.tick_params(labelsize=6)
    ax.set_box_aspect(0.8)


def _means(inputs: Tensor, labels: Tensor) -> Mapping[int, Tensor]:
    return {
        label: inputs[labels == label].float().mean(0) for label in torch.unique(labels).tolist()
    }


def _caption(
    pair: tuple[Certificates, Certificates], row: int, label: int, names: Sequence[str]
) -> str:
    """The strictest certified set of each network; the label is marked."""
    lines: list[str] = []
    for place, certificates in zip(("1st", "2nd"), pair, strict=True):
        order: list[int] = certificates.logits[row].argsort(descending=True).tolist()
        ranked = [c for c in order if bool(certificates.strictest_sets[row, c])]
        if not bool(certificates.certified[row]):
            text = "rejected"
        elif not ranked:
            text = "certified, no set"
        else:
            text = ", ".join(names[c] + ("*" if c == label else "") for c in ranked)
        lines.append(textwrap.fill(f"{place}: {text}", _WIDE, max_lines=5, placeholder=" ..."))
    return "\n".join(lines)


def _named(name: str) -> str:
    return textwrap.shorten(name, 30, placeholder="...")
