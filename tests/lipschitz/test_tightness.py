"""The report of bound against slope: exact where the truth is known, never above the bound."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxcert.errors import InvalidInput
from relaxcert.heads import GloRoNet
from relaxcert.lipschitz import tightness
from relaxcert.nn import MinMax
from relaxcert.spec import Local
from tests.networks import NORMS, linear, randn, random_backbone


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_network_has_ratio_one(norm):
    net = GloRoNet(nn.Sequential(linear(randn(1, 3, 4))), Local(eps=0.1, norm=norm))
    (row,) = tightness(net, randn(2, 5, 4))
    assert 1.0 <= row.ratio <= 1.0 + 1e-6
    assert row.norm == norm
    assert len(set(row.pair)) == 2


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_no_slope_exceeds_its_bound(norm, seed):
    net = GloRoNet(random_backbone(seed, activation=nn.ReLU), Local(eps=0.1, norm=norm))
    (row,) = tightness(net, randn(seed, 8, 4))
    assert 1.0 <= row.ratio < 1000.0
    assert row.how in ("gradient", "pair of inputs")


def test_an_orthogonal_network_is_nearly_tight():
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8) for _ in range(3)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
    net = GloRoNet(
        nn.Sequential(layers[0], MinMax(), layers[1], MinMax(), layers[2]), Local(eps=0.1)
    )
    (row,) = tightness(net, randn(1, 8, 8))
    assert row.ratio == pytest.approx(1.0, abs=1e-5)


def test_a_network_that_nothing_moves_has_no_ratio():
    net = GloRoNet(nn.Sequential(linear(torch.zeros(2, 3))), Local(eps=0.1))
    (row,) = tightness(net, randn(1, 2, 3))
    assert row.ratio == float("inf")


def test_points_are_needed():
    net = GloRoNet(nn.Sequential(nn.Linear(3, 2)), Local(eps=0.1))
    for points in (torch.zeros(0, 3), torch.full((1, 3), float("nan"))):
        with pytest.raises(InvalidInput, match="inputs"):
            tightness(net, points)
