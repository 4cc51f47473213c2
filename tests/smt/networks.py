"""Small networks with known answers, for the solver's tests."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import torch
from torch import Tensor, nn

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.nn.networks import dense
from relaxcert.smt.network import ExactNetwork
from relaxcert.smt.query import Region
from relaxcert.smt.translate import exact_network
from relaxcert.spec import Property
from relaxcert.training.loop import fit
from relaxcert.training.recipe import Optimisation
from relaxcert.training.schedules import Constant
from tests.networks import generator, linear, random_backbone


def affine(weight: list[list[float]], bias: list[float]) -> nn.Sequential:
    """A network without units."""
    return nn.Sequential(linear(weight, bias))


# f(x) = (0, x - 0.1, -0.5) (design, section 1): no single k <= 2 is invariant on [-1, 1].
ORDERS_DIFFER = affine([[0.0], [1.0], [0.0]], [0.0, -0.125, -0.5])
# f(x) = (2, 2x + 1, 0): F^1 changes iff x >= 1/2, F^2 iff x <= -1/2.
LINE = affine([[0.0], [2.0], [0.0]], [2.0, 1.0, 0.0])
# f(x) = (3, 2 + 2 relu(x), 1 + 2 relu(-x), 0).
BENT = nn.Sequential(
    linear([[1.0], [-1.0]], [0.0, 0.0]),
    nn.ReLU(),
    linear([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 0.0]], [3.0, 2.0, 1.0, 0.0]),
)


def coarse(seed: int, features: int = 2, classes: int = 3, activation=nn.ReLU) -> nn.Sequential:
    """A random network whose weights are eighths, so that ties on grids are common."""
    backbone = random_backbone(seed, features, (4, 4), classes, activation=activation)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.copy_((parameter * 4).round() / 4)
    return backbone


def exact(backbone: nn.Module, features: int) -> ExactNetwork:
    return exact_network(backbone, (features,))


def fractions(*values: float | str) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, values))


def grid(region: Region, steps: int) -> list[tuple[Fraction, ...]]:
    """Evenly spaced exact points of the region, its corners among them."""
    sides = [
        [low + (high - low) * Fraction(i, steps) for i in range(steps + 1)]
        for low, high in zip(region.lower, region.upper, strict=True)
    ]
    return [point for point in product(*sides) if region.contains(point)]


def regions(features: int, classes: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points of a cube, each labelled by the nearest of a few centres."""
    centres = torch.rand(3 * classes, features, generator=generator(99)) * 2 - 1
    points = torch.rand(count, features, generator=generator(seed)) * 2 - 1
    return points, torch.cdist(points, centres).argmin(1) % classes


def trained(
    prop: Property, widths: tuple[int, ...] = (2, 16, 16, 4), activation: str = "minmax"
) -> GloRoNet:
    """A GloRo network for ``regions``: its bounds are tight enough for a check to have teeth."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = dense(widths[0], widths[1:-1], widths[-1], activation=activation)
        net = GloRoNet(backbone, prop)
        data = regions(widths[0], widths[-1], 2000, 1)
        rate = Constant(value=3e-3)
        fit(net, data, Optimisation(epochs=25, batch_size=64, learning_rate=rate), progress=False)
    return net
