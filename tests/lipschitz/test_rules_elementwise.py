"""Abs, Diagonal, Rearrange: what they compute, refuse, and how far they move."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relaxcert.errors import InvalidInput
from relaxcert.lipschitz.registry import rule_for
from relaxcert.nn.elementwise import Abs, Diagonal
from relaxcert.nn.rearrange import Rearrange
from tests.networks import NORMS, randn

ORDER = {"l2": 2, "linf": torch.inf, "l1": 1}
SQUARE = torch.tensor([[3, 0], [0, 1]])


@pytest.mark.parametrize("shape", [(4,), (2, 2), (1, 4, 1)])
def test_they_compute_what_they_say(shape):
    inputs = randn(1, 3, *shape)
    assert torch.equal(Abs()(inputs), inputs.abs())
    assert torch.equal(Diagonal(torch.tensor(-2.0))(inputs), -2 * inputs)
    found = Rearrange(SQUARE, 4)(inputs)
    flat = inputs.flatten(1)
    assert torch.equal(found, torch.stack([flat[:, [3, 0]], flat[:, [0, 1]]], dim=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Diagonal(torch.tensor([1.0, math.nan])), "finite"),
        (lambda: Diagonal(torch.tensor([1, 2])), "int64"),
        (lambda: Diagonal(torch.ones(3, 2))(torch.ones(1, 2)), "must broadcast"),
        (lambda: Rearrange(torch.tensor([0, 4]), 4), "0..4, but an input point has 4"),
        (lambda: Rearrange(torch.tensor([-1, 0]), 4), "-1..0"),
        (lambda: Rearrange(torch.tensor([0.0]), 4), "float32"),
        (lambda: Rearrange(torch.zeros(0, dtype=torch.long), 4), "at least one"),
        (lambda: Rearrange(SQUARE, 4)(torch.ones(1, 5)), "5 numbers a point"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "layer",
    [
        Abs(),
        Diagonal(torch.tensor([0.5, -3.0, 0.0, 1.0])),
        Rearrange(torch.tensor([2, 2, 0, 2]), 4),
    ],
)
def test_the_bound_holds_and_is_reached(layer, norm):
    bound = rule_for(layer, "").verified(layer, norm).value
    assert rule_for(layer, "").estimate(layer, norm, None)[0] == bound
    one, other = randn(2, 400, 4), torch.cat((randn(3, 396, 4), torch.eye(4).double()))
    one[396:] = 0.0
    if isinstance(layer, Diagonal):
        layer = Diagonal(layer.factors.double())
    moved = torch.linalg.vector_norm(layer(one) - layer(other), ORDER[norm], dim=1)
    stretch = moved / torch.linalg.vector_norm(one - other, ORDER[norm], dim=1)
    assert bound * (1 - 1e-12) <= float(stretch.max()) <= bound * (1 + 1e-12)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.sampled_from(NORMS))
def test_repetitions_multiply_the_bound(places, norm):
    layer = Rearrange(torch.tensor(places), 4)
    times = max(places.count(place) for place in places)
    expected = {"l2": math.sqrt(times), "l1": times, "linf": 1}[norm]
    found = rule_for(layer, "").verified(layer, norm).value
    assert expected <= found <= expected * (1 + 1e-15)
    assert found * found >= times or norm != "l2"


def test_only_products_that_round_have_rounding():
    def operations(*factors: float) -> int:
        layer = Diagonal(torch.tensor(factors))
        return rule_for(layer, "").rounding(layer, "l2").operations

    assert operations(1.0, -1.0, 0.0) == 0
    assert operations(1.0, 0.3) == 2
    for layer in (Abs(), Rearrange(SQUARE, 4)):
        assert rule_for(layer, "").rounding(layer, "l2").operations == 0
