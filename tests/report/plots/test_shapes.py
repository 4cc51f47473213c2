"""Histograms count every point once; regions have the colours of what was certified there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

pytest.importorskip("matplotlib", reason="plots are an extra")
from matplotlib.colors import to_rgb

from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.metrics import certified_and_correct
from relaxcert.report import plots
from relaxcert.report.plots.regions import striped
from relaxcert.spec import Affinity, AffinitySets, Ball, Local, RelaxedTopK
from tests.networks import linear, randn, random_backbone


def certified(prop, seed=0, points=80):
    net = GloRoNet(random_backbone(seed, classes=5), prop)
    return net.certify(randn(seed, points, 4))


def heights(ax) -> dict[str, list[float]]:
    return {bars.get_label(): [bar.get_height() for bar in bars] for bars in ax.containers}


def test_set_sizes_are_the_counts_of_the_certificates():
    found = certified(RelaxedTopK(3, eps="0.05"))
    ax = plots.set_sizes(found)
    drawn = heights(ax)
    sizes = [int(label.get_text()) for label in ax.get_xticklabels()[:-1]]
    assert drawn["strictest set"] == [int((found.strictest_k == k).sum()) for k in sizes]
    assert drawn["loosest set"] == [int((found.k == k).sum()) for k in sizes]
    assert len({found.k.sum(), found.strictest_k.sum()}) == 2  # the two kinds differ here
    assert ax.get_xticklabels()[-1].get_text() == "rejected"
    assert ax.containers[-1][0].get_height() == int((~found.certified).sum())


def test_points_certified_without_a_set_have_a_bar():
    verdicts = SimpleNamespace(
        certified=torch.tensor([True, True, False]),
        k=torch.tensor([0, 2, 0]),
        strictest_k=torch.tensor([0, 1, 0]),
    )
    ax = plots.set_sizes(verdicts)
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "1",
        "2",
        "no one\nset",
        "rejected",
    ]
    assert [bars[0].get_height() for bars in ax.containers[-2:]] == [1, 1]


@settings(max_examples=12)
@given(
    st.lists(st.floats(-1e3, 1e3) | st.sampled_from([float("nan"), float("-inf")]), max_size=60),
    st.integers(1, 80),
)
def test_margins_count_each_finite_point_once_and_split_at_zero(values, bins):
    margin = torch.tensor(values, dtype=torch.float64)
    verdicts = SimpleNamespace(margin=margin, certified=margin > 0)
    ax = plots.margins(verdicts, bins=bins)
    drawn = heights(ax)
    assert sum(drawn["rejected"]) == int((margin.isfinite() & ~(margin > 0)).sum())
    assert sum(drawn["certified"]) == int((margin.isfinite() & (margin > 0)).sum())
    for name, bars in zip(drawn, ax.containers, strict=True):
        for bar in bars:
            middle = bar.get_x() + bar.get_width() / 2
            if bar.get_height() and abs(middle) > bar.get_width():
                assert (middle > 0) == (name == "certified")
    left_out = int((~margin.isfinite()).sum())
    assert (f"{left_out} points" in ax.get_title()) == bool(left_out)


def test_margins_tell_right_from_wrong():
    found = certified(Local(eps="0.05"))
    every_other = torch.arange(80) % 2
    correct = certified_and_correct(found, (found.prediction + every_other) % 5)
    drawn = heights(plots.margins(found, correct=correct))
    assert sum(drawn["certified, label in the set"]) == int(correct.sum()) > 0
    wrong = int((found.certified & ~correct).sum())
    assert sum(drawn["certified, label not in the set"]) == wrong > 0


def pale(colour: str) -> np.ndarray:
    return np.array(to_rgb(colour)) * 0.55 + 0.45


def test_regions_have_the_colours_of_their_sets():
    """f = (x, y): around the diagonal Local is rejected, and the pair is what RT2 would give."""
    net = GloRoNet(nn.Sequential(linear(torch.eye(2))), Local(eps="0.2"))
    ax = plots.decision_regions(net, (-1, 1, -1, 1), side=41)
    picture = np.asarray(ax.images[0].get_array())
    assert picture.shape == (123, 123, 3)
    np.testing.assert_allclose(picture[3, 120], pale(plots.COLOURS[0]))  # x = 1, y = -1
    np.testing.assert_allclose(picture[120, 3], pale(plots.COLOURS[1]))
    np.testing.assert_allclose(picture[61, 61], [0.85] * 3)
    assert len(ax.collections) == 1  # the hatch
    plain = plots.decision_regions(net, (-1, 1, -1, 1), side=41, show="prediction")
    assert not plain.collections


def test_a_set_is_striped_in_the_colours_of_its_members():
    net = GloRoNet(
        nn.Sequential(linear(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-9.0, -9.0]]))),
        Affinity(AffinitySets([[0, 1], [2]], 3), eps="0.1"),
    )
    ax = plots.decision_regions(net, (1, 2, 1, 2), side=20)
    middle = np.asarray(ax.images[0].get_array())[20:40, 20:40].reshape(-1, 3)
    found = {tuple(np.round(colour, 6)) for colour in middle}
    assert found == {tuple(np.round(pale(plots.COLOURS[label]), 6)) for label in (0, 1)}


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_stripes_show_all_members_and_nobody_else(seed):
    row = np.random.default_rng(seed).random(6) < 0.5
    picture = striped(np.broadcast_to(row, (20, 20, 6)))
    found = {tuple(np.round(colour, 6)) for colour in picture.reshape(-1, 3)}
    expected = {tuple(np.round(pale(plots.COLOURS[i]), 6)) for i in np.flatnonzero(row)}
    assert found == (expected or {(0.85, 0.85, 0.85)})


def test_balls_of_the_three_norms():
    _, axes = plots.new_figure(columns=3, width=6, height=2)
    for ax, norm in zip(axes, ("l2", "linf", "l1"), strict=True):
        assert plots.draw_ball((1, 2), Ball.of("0.5", norm), ax=ax, label="eps") is ax
        (shape,) = ax.patches
        box = shape.get_extents().transformed(ax.transData.inverted())
        assert np.allclose([box.x0, box.x1, box.y0, box.y1], [0.5, 1.5, 1.5, 2.5], atol=1e-3)
        assert [text.get_text() for text in ax.texts] == ["eps"]
    corner = (1.45, 2.45)
    inside = [ax.patches[0].contains_point(ax.transData.transform(corner)) for ax in axes]
    assert inside == [False, True, False]


def test_bad_arguments_of_regions_are_refused():
    net = GloRoNet(nn.Sequential(linear(torch.eye(2))), Local(eps="0.2"))
    with pytest.raises(InvalidInput, match="show='all'"):
        plots.decision_regions(net, (-1, 1, -1, 1), show="all")
    with pytest.raises(InvalidInput, match="left < right"):
        plots.decision_regions(net, (1, -1, -1, 1))


@pytest.mark.parametrize("name", ["vra_curve", "set_sizes", "grouping_map", "grouping_graph",
                                  "decision_regions", "margins", "exactness_scatter"])  # fmt: skip
def test_each_plot_makes_axes_of_its_own_if_it_is_given_none(name):
    found = certified(RelaxedTopK(3, eps="0.05"))
    names = list("abcde")
    given_to = {
        "vra_curve": ({"RT3": ([0.1, 0.2], [0.9, 0.5])},),
        "exactness_scatter": ({"RT3": ([0.1], [0.1])},),
        "grouping_map": (found, names),
        "grouping_graph": (found, names),
        "decision_regions": (
            GloRoNet(nn.Sequential(linear(torch.eye(2))), Local(eps="0.2")),
            (-1, 1, -1, 1),
        ),
    }
    ax = getattr(plots, name)(*given_to.get(name, (found,)))
    assert ax.figure.axes == [ax]
    ax.figure.canvas.draw()
