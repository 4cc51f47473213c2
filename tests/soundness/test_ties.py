"""Case 5: ties at the top, certified because equal values are masked."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.heads import GloRoNet
from relaxcert.spec import Local, RelaxedTopK, TopK
from tests.lipschitz import exact
from tests.networks import linear
from tests.soundness import naive


@pytest.fixture
def tied() -> nn.Sequential:
    """f = (x_0, x_1, -4), tied at the top wherever x_0 = x_1."""
    return nn.Sequential(linear([[1, 0], [0, 1], [0, 0]], [0, 0, -4])).float()


def test_case_5_ties_at_the_top(tied):
    point, eps = torch.tensor([1.0, 1.0]), Fraction(1, 2)
    with torch.no_grad():
        logits = tied(point[None])[0]
    pairs = torch.cdist(tied[0].weight, tied[0].weight)
    assert naive.margin_masked_by_value(logits, pairs, float(eps)) > 0

    # The two neighbours of x predict different classes: nothing local can be true of x.
    step = Fraction(1, 10**6)
    up = exact.forward(tied, [1 + step, Fraction(1)])
    down = exact.forward(tied, [1 - step, Fraction(1)])
    assert step <= eps
    assert up[0] > up[1]
    assert down[0] < down[1]

    for prop in (Local(eps=eps), RelaxedTopK(1, eps=eps), Local(eps=Fraction(1, 10**12))):
        certificate = GloRoNet(tied, prop).certify(point[None])
        assert not bool(certificate.certified)
        assert float(certificate.radius) == 0.0


def test_what_is_true_of_the_tied_point_is_certified_up_to_its_radius(tied):
    """{0, 1} stays on top until a class falls to -4, at distance 5: both quantifiers of top-2."""
    point = torch.tensor([1.0, 1.0])
    for kind in (TopK, RelaxedTopK):
        certificate = GloRoNet(tied, kind(2, eps=Fraction(4999, 1000))).certify(point[None])
        assert bool(certificate.certified)
        assert certificate.sets.tolist() == [[True, True, False]]
        assert float(certificate.radius) == pytest.approx(5.0, rel=1e-9)
        assert float(certificate.radius) <= 5.0
        assert not bool(GloRoNet(tied, kind(2, eps=5)).certify(point[None]).certified)
    at_five = exact.forward(tied, [Fraction(-4), Fraction(1)])
    assert at_five[0] == at_five[2]


def test_a_tie_that_only_rounding_makes_is_not_a_tie():
    """f_0 - f_1 = 2^-30 beside a bias of 1: float32 sees a tie, the real function has none."""
    tiny = Fraction(1, 2**30)
    backbone = nn.Sequential(linear([[1, 0], [0, 1]], [1, 1])).float()
    point = torch.tensor([float(tiny), 0.0])
    with torch.no_grad():
        assert backbone(point[None])[0].tolist() == [1.0, 1.0]
    logits = exact.forward(backbone, exact.exact_vector(point))
    assert logits[0] - logits[1] == tiny
    radius = float(GloRoNet(backbone, Local(eps=1)).certify(point[None]).radius)
    assert radius == pytest.approx(float(tiny) / 2**0.5, rel=0.01)
    assert 2 * Fraction(radius) ** 2 < tiny**2
