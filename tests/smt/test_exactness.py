"""Exact radii against closed forms and against certified ones."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.report.plots import exactness_scatter, new_figure
from relaxcert.smt.exactness import (
    ExactRadius,
    Tightness,
    exact_radius,
    median_ratio,
    tightness,
)
from relaxcert.spec import Local, RelaxedTopK, TopK
from tests.networks import random_backbone
from tests.smt.networks import BENT, LINE, affine, exact, fractions, regions


@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
def test_the_radius_of_an_affine_network_is_the_margin_over_the_dual_norm(norm):
    network = exact(affine([[3.0, 4.0], [0.0, 0.0]], [0.0, 0.0]), 2)
    expected = {"l2": 7 / 5, "linf": 1.0, "l1": 7 / 4}[norm]
    found = exact_radius(
        network, fractions(1, 1), Local(eps=1, norm=norm), start=0.5, tolerance=1e-4
    )
    assert found.decided
    assert found.proved < expected <= found.refuted * (1 + 1e-12)
    assert found.refuted - found.proved <= 1e-4 * found.refuted


def test_orders_have_radii_of_their_own():
    network = exact(BENT, 1)
    origin = fractions(0)
    uniform = exact_radius(network, origin, RelaxedTopK(2, eps=1), tolerance=1e-3)
    pointwise = exact_radius(
        network, origin, RelaxedTopK(2, eps=1, quantifier="pointwise"), tolerance=1e-3
    )
    assert uniform.proved < 0.5 <= uniform.refuted
    # At -1 rank 3 joins: f_2 = 3 = f_0 = top; until then at each x' one set stays.
    assert pointwise.proved < 1.0 <= pointwise.refuted
    forever = exact_radius(network, origin, TopK(3, eps=1))
    assert forever.proved < math.inf
    assert forever.refuted > forever.proved > 0.9


def test_certified_radii_never_exceed_exact_ones():
    net = GloRoNet(random_backbone(5, 2, (8, 8), 4), RelaxedTopK(2, eps=0.1))
    points = regions(2, 4, 12, 3)[0]
    found = tightness(net, points, tolerance=1e-2)
    assert all(point.exact.decided for point in found)
    for point in found:
        assert point.certified <= point.exact.refuted
        assert point.pointwise is not None
        assert point.pointwise.refuted >= point.exact.proved
    assert 0.1 < median_ratio(found) <= 1.0
    figure, (ax,) = new_figure(columns=1, width=4, height=4)
    shown = [point for point in found if not math.isnan(point.ratio)]
    exactness_scatter(
        {"net": ([p.exact.proved for p in shown], [p.certified for p in shown])}, ax=ax
    )
    assert len(ax.lines[0].get_xdata()) == len(shown)
    assert figure is not None


def test_mistakes_are_explained():
    net = GloRoNet(LINE, Local(eps=1) & TopK(2, eps=2))
    with pytest.raises(InvalidInput, match="has several balls"):
        tightness(net, torch.zeros(1, 1))
    with pytest.raises(InvalidInput, match="tolerance=0"):
        exact_radius(exact(LINE, 1), (Fraction(0),), Local(eps=1), tolerance=0)


@pytest.mark.parametrize(
    ("certified", "refuted", "weaker", "unsound"),
    [
        (1.0, 1.0, None, True),  # the ball of the certified radius itself is claimed
        (1.0, 1.0 + 2.0**-52, None, False),
        (1.0, math.inf, 0.5, True),
        (1.0, 2.0, 2.0, False),
        (math.inf, math.inf, None, False),
        (math.inf, 1e9, None, True),
        (math.nan, 1.0, None, False),
        (0.0, 0.5, 0.5, False),
    ],
)
def test_what_contradicts_a_certified_radius(certified, refuted, weaker, unsound):
    pointwise = None if weaker is None else ExactRadius(0.0, weaker)
    assert Tightness(0, certified, ExactRadius(0.0, refuted), pointwise).unsound is unsound
