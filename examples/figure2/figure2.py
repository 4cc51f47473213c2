"""Figures 1 and 2 of the paper, alive: what networks guarantee where, in the plane.

python examples/figure2/figure2.py                 # into the folder figure2, half a minute
python examples/figure2/figure2.py --out pictures
"""

import argparse
from pathlib import Path

import torch
from drawing import draw_data, draw_legend, mark_difference, name_classes
from figure1 import draw_figure_1
from networks import EPS, EXTENT, four_discs, panels

from relaxcert import GloRoNet, RelaxedTopK, evaluate
from relaxcert.report import plots

CORNER = (-1.2, 0.2, 0.35, 1.15)  # where A, B and C meet


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw Figures 1 and 2 of the paper.")
    parser.add_argument("--out", default="figure2", help="folder for the pictures")
    parser.add_argument("--epochs", type=int, default=60, help="of training")
    parser.add_argument("--side", type=int, default=120, help="grid points a side")
    given = parser.parse_args()
    torch.set_num_threads(1)
    train, test = four_discs(1000, seed=0), four_discs(500, seed=1)
    figure, _ = plots.new_figure(columns=1, width=11.5, height=8.4)
    figure.clear()
    first, *axes, last, legend, spare = figure.subplots(3, 3).flatten()
    spare.remove()
    draw_data(first, train)
    name_classes(first)
    first.set_title("Four classes; neighbours overlap\n")
    shown = panels(train, given.epochs)
    for ax, (title, panel) in zip(axes, shown.items(), strict=True):
        plots.decision_regions(panel.net, EXTENT, ax=ax, side=given.side, show=panel.show)
        name_classes(ax, alone=panel.alone, pairs=panel.pairs)
        plots.draw_ball((-2.4, -1.4), panel.net.prop.balls[0], ax=ax, label="eps")
        figures, _ = evaluate(panel.net, test.inputs, test.labels)
        result = f"VRA {figures.vra:.3f}, rejected {figures.rejection_rate:.3f}"
        ax.set_title(f"{title}\n{result}")
        print(f"{title}: {result}")
    uniform = shown["RT2"].net
    literal = GloRoNet(uniform.backbone, RelaxedTopK(2, eps=EPS, quantifier="pointwise"))
    plots.decision_regions(uniform, CORNER, ax=last, side=given.side)
    plots.draw_ball((-0.15, 0.95), uniform.prop.balls[0], ax=last, label="eps")
    more = mark_difference(last, literal, uniform, CORNER, given.side)
    last.set_title("RT2 where A, B and C meet:\npointwise certifies more (black)")
    print(f"near that corner, pointwise certifies {more} of {given.side**2} grid points more")
    draw_legend(legend)
    for ax in (first, *axes, last):
        ax.set_aspect("equal")
        ax.locator_params(nbins=4)
    figure.set_layout_engine("constrained")
    for suffix in (".png", ".svg"):
        plots.save(figure, Path(given.out, f"figure2{suffix}"))
        draw_figure_1(Path(given.out, f"figure1{suffix}"))
    print(f"figure1 and figure2, .png and .svg, are in {given.out}")


if __name__ == "__main__":
    main()
