"""Plots: counts that are right, Axes in and Axes out, files that are pictures."""

from __future__ import annotations

import builtins

import pytest
import torch
from torch import nn

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.report import plots
from relaxcert.spec import Affinity, AffinitySets, RelaxedTopK
from tests.networks import linear

ROWS = torch.tensor(
    [
        [3.0, 2.0, 1.0, 0.0],  # strictest {0}
        [3.0, 2.9, 1.0, 0.0],  # {0, 1}
        [2.9, 3.0, 1.0, 0.0],  # {0, 1}
        [0.0, 3.0, 2.9, 2.8],  # {1, 2, 3}
        [3.0, 2.9, 2.8, 2.7],  # nothing
        [0.0, 1.0, 2.0, 3.0],  # {3}
    ],
    dtype=torch.float64,
)
NAMES = ["red soil", "cotton crop", "grey soil", "damp grey soil"]


def certificates(prop=None):
    chosen = RelaxedTopK(3, eps="0.1") if prop is None else prop
    return GloRoNet(nn.Sequential(linear(torch.eye(4))), chosen).certify(ROWS)


def test_grouped_together_counts_pairs_of_the_strictest_sets():
    assert plots.grouped_together(certificates()).tolist() == [
        [1, 2, 0, 0],
        [2, 0, 1, 1],
        [0, 1, 0, 1],
        [0, 1, 1, 1],
    ]


def test_grouped_together_of_affinity_stays_inside_the_sets():
    pairs = Affinity(AffinitySets([[0, 1], [2, 3]], 4), eps="0.1")
    assert plots.grouped_together(certificates(pairs)).tolist() == [
        [1, 2, 0, 0],
        [2, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 1],
    ]


def test_grouped_together_of_no_points_is_zero():
    none = GloRoNet(nn.Sequential(linear(torch.eye(4))), RelaxedTopK(3, eps="0.1"))
    assert plots.grouped_together(none.certify(ROWS[:0])).tolist() == [[0] * 4] * 4


def test_the_grouping_map_draws_on_the_axes_it_is_given():
    pytest.importorskip("matplotlib", reason="plots are an extra")
    _, (left, right) = plots.new_figure(columns=2, width=6, height=3)
    drawn = plots.grouping_map(certificates(), NAMES, ax=right, title="Groups")
    assert drawn is right
    assert not left.images
    assert right.get_title() == "Groups"
    counts = {(t.get_position(), t.get_text()) for t in right.texts}
    # (column, row): each nonzero count in its place
    assert ((1, 0), "2") in counts
    assert ((0, 0), "1") in counts
    assert len(counts) == 10
    labels = [label.get_text().replace("\n", " ") for label in right.get_yticklabels()]
    assert labels == NAMES


def test_the_vra_curve_draws_one_line_a_network_and_marks_eps():
    pytest.importorskip("matplotlib", reason="plots are an extra")
    _, (ax,) = plots.new_figure(columns=1, width=3, height=3)
    curves = {"Local": ([0.1, 0.2], [0.9, 0.5]), "RT3": ([0.1, 0.2], [1.0, 0.8])}
    assert plots.vra_curve(curves, ax=ax, eps=0.15) is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Local", "RT3"]
    assert [list(line.get_ydata()) for line in ax.lines[:2]] == [[0.9, 0.5], [1.0, 0.8]]
    assert list(ax.lines[2].get_xdata()) == [0.15, 0.15]
    assert [text.get_text() for text in ax.texts] == ["eps = 0.15"]


def test_more_networks_than_colours_are_still_drawn():
    pytest.importorskip("matplotlib", reason="plots are an extra")
    _, (ax,) = plots.new_figure(columns=1, width=3, height=3)
    curves = {f"net {i}": ([0.0, 1.0], [0.5, i / 20]) for i in range(20)}
    plots.vra_curve(curves, ax=ax)
    looks = {(line.get_color(), line.get_linestyle()) for line in ax.lines}
    assert len(looks) == len(ax.lines) == 20


def test_a_png_is_written_whole(tmp_path):
    pytest.importorskip("matplotlib", reason="plots are an extra")
    figure, (ax,) = plots.new_figure(columns=1, width=3, height=3)
    plots.grouping_map(certificates(), NAMES, ax=ax, title="Groups")
    path = plots.save(figure, tmp_path / "deep" / "map.png")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
    assert len(content) > 5000
    assert [entry.name for entry in path.parent.iterdir()] == ["map.png"]


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(plots.MissingPlots, match=r"pip install 'relaxcert\[report\]'"):
        plots.new_figure(columns=1, width=3, height=3)
