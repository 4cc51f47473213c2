"""Odd weights and networks, from end to end: refused by name, or right."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.errors import InvalidInput, InvalidWeights, UnsupportedLayer, UnsupportedPrecision
from relaxcert.heads import GloRoNet
from relaxcert.spec import Local
from relaxcert.testing.exact import exact_vector, forward
from tests.networks import directions, randn, random_backbone

POINTS = randn(1, 5, 4)


def dense() -> nn.Sequential:
    return random_backbone(2, activation=nn.ReLU, dtype=torch.float64)


def holding(value: float, layer: int) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        backbone = dense()
        with torch.no_grad():
            backbone[layer].weight[0, 0] = value
        return backbone

    return make


def cyclic() -> nn.Module:
    backbone = nn.Sequential(nn.Linear(4, 4))
    backbone.add_module("again", nn.Sequential(nn.ReLU(), backbone))
    return backbone


def images(inputs: int, outputs: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Conv2d(inputs, outputs, 1), nn.Flatten(), nn.Linear(4 * outputs, 3)
    )


IMAGES = torch.zeros(2, 1, 2, 2)
REFUSED = {
    "float16": (lambda: dense().half(), POINTS, UnsupportedPrecision),
    "bfloat16": (lambda: dense().bfloat16(), POINTS, UnsupportedPrecision),
    "NaN": (holding(float("nan"), 1), POINTS, InvalidWeights),
    "infinite": (holding(float("inf"), 3), POINTS, InvalidWeights),
    "infinite, last layer": (holding(-float("inf"), 5), POINTS, InvalidWeights),
    "no inputs": (lambda: nn.Sequential(nn.Linear(0, 3)), torch.zeros(2, 0), InvalidInput),
    "no hidden units": (
        lambda: nn.Sequential(nn.Linear(4, 0), nn.ReLU(), nn.Linear(0, 3)),
        POINTS,
        InvalidWeights,
    ),
    "convolution to 0 channels": (images(1, 0), IMAGES, InvalidInput),
    "convolution of 0 channels": (images(0, 2), IMAGES[:, :0], InvalidInput),
    "no layers": (nn.Sequential, POINTS, UnsupportedLayer),
    "a cycle": (cyclic, POINTS, UnsupportedLayer),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_an_error_of_our_own(name):
    make, points, error = REFUSED[name]
    with pytest.raises(error):
        GloRoNet(make(), Local(eps="1/10")).eval().certify(points)


@pytest.mark.parametrize("layer", [1, 3, 5])
@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_extreme_weights_are_never_certified_wrongly(scale, layer):
    """Against exact arithmetic, at points of the ball of the radius that is proved."""
    backbone = dense()
    with torch.no_grad():
        backbone[layer].weight.mul_(scale)
    net = GloRoNet(backbone, Local(eps="1/1000000")).eval()
    found = net.certify(POINTS)
    for index, point in enumerate(POINTS):
        if not bool(found.certified[index]):
            continue
        radius = min(float(found.radius[index]), 1e200) * (1 - 1e-9)
        assert radius >= 1e-6 * (1 - 1e-8)
        top = int(found.prediction[index])
        for move in directions("l2", 4, index)[:12]:
            steps = [Fraction(v) * Fraction(radius) for v in (move / move.norm()).tolist()]
            there = [a + b for a, b in zip(exact_vector(point), steps, strict=True)]
            logits = forward(backbone, there)
            assert all(logits[top] > value for i, value in enumerate(logits) if i != top)


def test_shared_modules_count_as_often_as_they_are_used():
    layer = nn.Linear(4, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(3 * torch.eye(4))
    backbone = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(4, 3)).double()
    bounds = GloRoNet(backbone, Local(eps="1/10")).eval().verify()
    assert bounds.norms["l2"].product == pytest.approx(9.0, rel=1e-6)
    assert bounds.norms["l2"].product >= 9.0
