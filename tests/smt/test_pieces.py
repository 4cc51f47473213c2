"""Local Lipschitz constants: against dense exact sampling, and the bounds of the head."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.errors import InvalidInput
from relaxcert.lipschitz.verified import verify
from relaxcert.nn.layers import MinMax
from relaxcert.smt import Region
from relaxcert.smt.pieces import local_lipschitz
from relaxcert.spec import Ball
from tests.networks import random_backbone
from tests.smt.networks import BENT, exact, fractions, grid


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("activation", [nn.ReLU, MinMax])
def test_constants_are_attained_and_below_the_proved_bounds(norm, activation):
    backbone = random_backbone(2, 2, (6, 6), 3, activation=activation)
    network = exact(backbone, 2)
    centre = fractions("1/4", "-1/2")
    region = Region.around(centre, Ball.of(1, norm))
    found = local_lipschitz(network, region, norm)
    assert found.complete
    assert found.pieces > 3
    # Gradients at many points, by autograd: none is steeper.
    points = torch.tensor([[float(v) for v in p] for p in grid(region, 40)], dtype=torch.float64)
    points.requires_grad_()
    bounds = verify(backbone, [norm], 3).norms[norm]
    dual = {"l2": 2, "linf": 1, "l1": torch.inf}[norm]
    for j, i in found.largest:
        logits = backbone.double()(points)
        (gradient,) = torch.autograd.grad((logits[:, j] - logits[:, i]).sum(), points)
        sampled = float(torch.linalg.vector_norm(gradient, dual, dim=1).max())
        assert sampled <= found.value(j, i) * (1 + 1e-9)
        assert sampled >= 0.8 * found.value(j, i)
        proved = bounds.product * float(bounds.pairs[j, i])
        assert not found.exceeds(j, i, proved)
        assert found.exceeds(j, i, found.value(j, i) * (1 - 1e-9))


def test_a_known_network():
    # f = (3, 2 + 2 relu(x), 1 + 2 relu(-x), 0)
    region = Region.around(fractions(0), Ball.of(1))
    found = local_lipschitz(exact(BENT, 1), region, "l2")
    assert found.pieces == 2
    assert [found.value(*pair) for pair in ((0, 1), (1, 2), (2, 1), (0, 3))] == [2, 2, 2, 0]
    one_side = Region.around(fractions(5), Ball.of(1))
    assert local_lipschitz(exact(BENT, 1), one_side, "l2").value(0, 2) == 0


def test_no_time_means_incomplete():
    network = exact(random_backbone(2, 2, (6, 6), 3), 2)
    region = Region.around(fractions(0, 0), Ball.of(1, "linf"))
    found = local_lipschitz(network, region, "linf", budget=1e-9)
    assert not found.complete
    other = replace(region, centre=fractions(0, 0), ball=Ball(Fraction(1), "l1"))
    with pytest.raises(InvalidInput, match="not the norm of the region"):
        local_lipschitz(network, other, "l2")
