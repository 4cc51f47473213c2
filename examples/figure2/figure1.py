"""Figure 1 of the paper: a point may be top-1 robust and not top-2 robust.

The network is the identity plus the logits, so that in an linf ball of eps each logit moves by eps.
"""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import nn

from relaxcert import GloRoNet, TopK
from relaxcert.report import plots

_EPS = 0.4


def draw_figure_1(path: Path) -> Path:
    """Both panels, whose titles are what ``certify`` says."""
    figure, axes = plots.new_figure(columns=2, width=8, height=3.4)
    _draw(axes[0], [3.0, 1.7, 1.2])
    _draw(axes[1], [3.0, 2.0, 0.6])
    axes[0].set_ylabel("logit")
    return plots.save(figure, path)


def certified(logits: list[float], k: int) -> bool:
    """Whether the set of the top k is certified where the logits are these."""
    layer = nn.Linear(3, 3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3))
        layer.bias.copy_(torch.tensor(logits))
    net = GloRoNet(nn.Sequential(layer), TopK(k, eps=_EPS, norm="linf"))
    return bool(net.certify(torch.zeros(1, 3, dtype=torch.float64)).certified)


def _draw(ax: Axes, logits: list[float]) -> None:
    places = [0, 1, 2]
    ax.bar(places, logits, width=0.5, color=plots.COLOURS[:3], alpha=0.55)
    ax.errorbar(places, logits, yerr=_EPS, fmt="none", ecolor="black", capsize=6, linewidth=1.5)
    ax.set_xticks(places, ["class 1", "class 2", "class 3"])
    ax.set_ylim(0, 3.8)
    answers = [f"top-{k} robust: {'yes' if certified(logits, k) else 'no'}" for k in (1, 2)]
    ax.set_title(", ".join(answers))
    for spine in ("top", "right"):
        ax.spines[spine].set_visible(False)
