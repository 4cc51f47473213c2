"""Consecutive linear layers as one map, against the matrix of the whole and the product."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
import torch
from torch import nn

from relaxcert.heads import GloRoNet
from relaxcert.lipschitz import linear_maps
from relaxcert.lipschitz.verified import verify
from relaxcert.nn import Residual, Scale
from relaxcert.spec import Local
from tests.lipschitz.layer_zoo import dense, randomised
from tests.networks import NORMS

ORDERS = {"l2": 2, "linf": float("inf"), "l1": 1}


def scaled_residual(block: nn.Module, factor: float) -> Residual:
    return Residual(nn.Sequential(block, Scale(factor)))


CASES = {
    "dense dense": (lambda: [nn.Linear(4, 6), nn.Linear(6, 3)], (4,)),
    "three dense": (lambda: [nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)], (4,)),
    "dense, norm, dense": (
        lambda: [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 3)],
        (4,),
    ),
    "convolution, norm": (
        lambda: [nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4)],
        (2, 5, 4),
    ),
    "norm, convolution": (
        lambda: [nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, stride=2, groups=2)],
        (4, 5, 5),
    ),
    "norm, transposed, norm": (
        lambda: [
            nn.BatchNorm1d(4),
            nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2),
            nn.BatchNorm1d(6),
        ],
        (4, 5),
    ),
    "residual": (lambda: [Residual(nn.Conv2d(3, 3, 3, padding=1))], (3, 5, 4)),
    "scaled residual": (
        lambda: [scaled_residual(nn.Conv2d(3, 3, 3, padding=1), -0.37)],
        (3, 4, 4),
    ),
    "residual, norm": (
        lambda: [Residual(nn.Conv2d(3, 3, 3, padding=1)), nn.BatchNorm2d(3)],
        (3, 4, 4),
    ),
    "dense residual": (lambda: [Residual(nn.Linear(5, 5)), nn.Linear(5, 4)], (5,)),
    "even kernel residual": (
        lambda: [Residual(nn.Conv1d(2, 2, 2, padding="same", padding_mode="circular"))],
        (2, 6),
    ),
    "convolution, flattened, dense": (
        lambda: [nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(27, 4)],
        (2, 4, 4),
    ),
    "flattened, norm": (lambda: [nn.Flatten(), nn.BatchNorm1d(24)], (2, 3, 4)),
    "flattened, norm, dense": (
        lambda: [nn.Flatten(), nn.BatchNorm1d(24), nn.Linear(24, 4)],
        (2, 3, 4),
    ),
    "convolution, flattened, norm, dense": (
        lambda: [nn.Conv2d(2, 3, 2), nn.Flatten(), nn.BatchNorm1d(27), nn.Linear(27, 4)],
        (2, 4, 4),
    ),
    "flattened by half, norm, convolution": (
        lambda: [nn.Flatten(2), nn.BatchNorm1d(2), nn.Conv1d(2, 3, 2)],
        (2, 3, 2),
    ),
    "circular, flattened, dense": (
        lambda: [
            nn.Conv1d(1, 2, 5, padding="same", padding_mode="circular"),
            nn.Flatten(),
            nn.Linear(12, 4),
        ],
        (1, 6),
    ),
}


def made(name: str, seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    make, shape = CASES[name]
    torch.manual_seed(seed)
    return randomised(nn.Sequential(*make()), random.Random(seed)), shape


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", list(CASES))
def test_folded_bounds_are_close_above_the_matrix_of_the_whole(name, norm):
    for seed in range(4):
        body, shape = made(name, seed)
        truth = float(torch.linalg.matrix_norm(dense(body, shape), ORDERS[norm]))
        net = nn.Sequential(body, nn.ReLU())
        folded = verify(net, [norm], 2, shape).norms[norm].product
        assert truth * (1 - 1e-12) <= folded
        # l2 of small maps is tight; sums of taps count those that only meet padding.
        matrices = name.endswith("dense") or name in ("dense residual", "dense, norm, dense")
        assert folded <= truth * (1 + 1e-6 if norm == "l2" or matrices else 1.6)


@pytest.mark.parametrize("name", ["dense dense", "residual", "convolution, norm"])
def test_folding_is_tighter_than_the_product(name):
    body, shape = made(name, 1)
    net = nn.Sequential(body, nn.ReLU())
    rows = verify(net, ["l2"], 2, shape).norms["l2"].rows
    if name == "residual":
        assert rows[-1].total < 0.999 * (1.0 + rows[0].bound)
    else:
        assert rows[-1].total < 0.999 * rows[0].bound * rows[1].bound


def test_bounds_for_any_shape_give_way_to_folded_ones_when_the_shape_is_known():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    net = GloRoNet(backbone, Local(eps=0.1))
    loose = net.verify().norms["l2"].product
    net.certify(torch.zeros(1, 4))
    tight = net.verify().norms["l2"].product
    assert tight < 0.999 * loose
    assert net.verify().input_shape == (4,)
    # A linear layer on each of three places: its own matrix says nothing of the whole point.
    net.certify(torch.zeros(1, 3, 4).reshape(3, 4))


@pytest.mark.parametrize("seed", range(3))
def test_errors_of_products_and_sums_are_covered_exactly(seed):
    """Against rational arithmetic, for matrices and for scaled kernels."""
    from fractions import Fraction

    torch.manual_seed(seed)
    exact = lambda m: [[Fraction(v) for v in row] for row in m.tolist()]  # noqa: E731
    a, b, c = (torch.randn(3, 3, dtype=torch.float64) / 3 for _ in range(3))
    left = linear_maps._matrix_product(linear_maps.Dense(a), linear_maps.Dense(b))
    whole = linear_maps._matrix_product(left, linear_maps.Dense(c))
    summed = linear_maps.total(whole, linear_maps.IDENTITY, -1, ((3,), (3,)))
    assert isinstance(summed, linear_maps.Dense)
    x, y, z = exact(a), exact(b), exact(c)

    def times(m, n):
        return [[sum(r[k] * n[k][j] for k in range(3)) for j in range(3)] for r in m]

    truth = times(times(x, y), z)
    for i, j in itertools.product(range(3), repeat=2):
        wanted = truth[i][j] - (1 if i == j else 0)
        error = abs(wanted - Fraction(float(summed.matrix[i, j])))
        assert error <= Fraction(float(summed.error[i, j])) <= Fraction(1, 2**40)


def test_a_forgotten_error_would_be_seen(monkeypatch):
    """Weights that cancel: what is left of the product is all rounding, and must be counted."""
    a = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1 / 3], [-1 / 3 + 2.0**-60]], dtype=torch.float64)
    found = linear_maps._matrix_product(linear_maps.Dense(a * (1 + 2.0**-52)), linear_maps.Dense(b))
    assert linear_maps.norm_of(found, "l2", tight=False) > float(found.matrix.abs().max())
    bare = dataclasses.replace(found, error=None)
    assert linear_maps.norm_of(bare, "l2", tight=False) < linear_maps.norm_of(
        found, "l2", tight=False
    )
