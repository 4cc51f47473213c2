"""Bounds hold exactly: every unit and every atom at exact points of the region, in rationals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from relaxcert.nn.elementwise import Abs
from relaxcert.nn.layers import MinMax
from relaxcert.smt import Region, reaches
from relaxcert.smt.audit import _extreme, bounds_fault
from relaxcert.smt.bounds import bounds_over
from relaxcert.smt.float_network import FloatMap, FloatNetwork
from relaxcert.smt.problem import rows_of
from relaxcert.smt.support import Boxes
from relaxcert.spec import Ball
from tests.networks import random_backbone
from tests.smt.networks import exact

NORMS = ["linf", "l2", "l1"]


def atoms_of(network):
    labels = range(network.classes)
    return [reaches(i, j) for i in labels for j in labels if i != j]


def points_of(region, seed, count=6):
    """Exact points of the region: its middle, extreme ones, and some between."""
    generator = np.random.default_rng(seed)
    found = [region.middle]
    for _ in range(count):
        weights = generator.integers(-3, 4, size=region.inputs).tolist()
        corner = _extreme(region, weights)
        share = Fraction(int(generator.integers(0, 9)), 8)
        middle = region.middle
        found += [
            corner,
            tuple(m + share * (c - m) for c, m in zip(corner, middle, strict=True)),
        ]
    return [point for point in found if region.contains(point)]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    activation=st.sampled_from([nn.ReLU, MinMax, Abs]),
    norm=st.sampled_from(NORMS),
    eps=st.sampled_from(["1/1000000", "1/10", "2"]),
    offset=st.sampled_from([0, 1000]),
)
def test_bounds_hold_at_exact_points(seed, activation, norm, eps, offset):
    network = exact(random_backbone(seed, 3, (6, 4), 3, activation=activation), 3)
    centre = tuple(Fraction(seed % 7 - 3, 4) + offset for _ in range(3))
    region = Region.around(centre, Ball.of(eps, norm))
    atoms = atoms_of(network)
    rows = FloatMap.of(rows_of(atoms, network))
    whole = Boxes.around(region)
    bounds = bounds_over(FloatNetwork.of(network), whole, rows)
    halves = whole.split(np.array([seed % 3]))
    parts = bounds_over(FloatNetwork.of(network), halves, rows, bounds.twice())
    for point in points_of(region, seed):
        values = network.run(point)
        assert bounds_fault(bounds, values) == ""
        inside = [
            place
            for place in range(2)
            if all(
                Fraction(a) <= p <= Fraction(b)
                for a, p, b in zip(
                    halves.lower[place].tolist(), point, halves.upper[place].tolist(), strict=True
                )
            )
        ]
        assert inside, "the halves cover the box"
        for index, atom in enumerate(atoms):
            value = atom.value(values.logits)
            assert Fraction(bounds.lowest[0, index]) <= value <= Fraction(bounds.highest[0, index])
            for place in inside:
                low, high = parts.lowest[place, index], parts.highest[place, index]
                assert Fraction(low) <= value <= Fraction(high)
                assert not halves.outside()[place]


def test_no_slack_is_left_by_rounding_inward():
    """At a corner the first stage takes its extreme exactly: bounds one step inward would fail."""
    network = exact(random_backbone(1, 3, (6,), 3, activation=nn.ReLU), 3)
    region = Region.around((Fraction(1, 3), Fraction(1, 7), Fraction(0)), Ball.of("1/3", "linf"))
    rows = FloatMap.of(rows_of(atoms_of(network), network))
    bounds = bounds_over(FloatNetwork.of(network), Boxes.around(region), rows)
    stage = network.stages[0].pre
    for unit in range(stage.rows):
        weights = [int(w) for w in stage.matrix[unit]]
        for sign, bound in ((1, bounds.upper[0][0, unit]), (-1, bounds.lower[0][0, unit])):
            corner = _extreme(region, [sign * w for w in weights])
            value = network.run(corner).pre[0].fractions()[unit]
            gap = sign * (Fraction(float(bound)) - value)
            assert 0 <= gap < Fraction(1, 10**12)  # outward, and by rounding only


def test_the_ball_helps_where_the_box_alone_is_loose():
    network = exact(random_backbone(2, 6, (8,), 3), 6)
    rows = FloatMap.of(rows_of(atoms_of(network), network))
    widths = {}
    for norm in NORMS:
        region = Region.around((Fraction(0),) * 6, Ball.of(1, norm))
        boxes = Boxes.around(region)
        # Children of the root cut the ball as well: the better of box, ball and a split of both.
        for _ in range(2):
            boxes = boxes.split(np.zeros(len(boxes.lower), dtype=np.int64))
        bounds = bounds_over(FloatNetwork.of(network), boxes, rows)
        widths[norm] = float(bounds.highest.max() - bounds.lowest.min())
    assert widths["l1"] < widths["l2"] < widths["linf"]


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_numbers_beyond_float64_are_unknown_never_wrong(size):
    backbone = random_backbone(3, 2, (4,), 3, activation=nn.ReLU).double()
    backbone[1].weight.data *= size
    network = exact(backbone, 2)
    region = Region.around((Fraction(1), Fraction(-1)), Ball.of(1))
    atoms = atoms_of(network)
    rows = FloatMap.of(rows_of(atoms, network))
    bounds = bounds_over(FloatNetwork.of(network), Boxes.around(region), rows)
    for point in points_of(region, 0):
        values = network.run(point)
        assert bounds_fault(bounds, values) == ""
        for index, atom in enumerate(atoms):
            high = bounds.highest[0, index]
            assert high == np.inf or atom.value(values.logits) <= Fraction(float(high))
