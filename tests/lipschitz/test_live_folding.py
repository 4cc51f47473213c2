"""Estimates of training for consecutive linear layers: they approach the verified folded bound."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxcert.lipschitz.live_folding import segments_of
from relaxcert.lipschitz.network import NetworkLipschitz
from relaxcert.nn import Residual
from tests.lipschitz.test_folding import CASES, made


def converged(net: nn.Sequential, shape: tuple[int, ...], rounds: int = 700) -> NetworkLipschitz:
    kept = NetworkLipschitz(net, ["l2"], 2, shape)
    for _ in range(rounds):
        kept.estimated(shape)
    return kept


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", [n for n in CASES if "flattened" not in n])
def test_estimates_approach_the_folded_bound(name):
    for seed in range(2):
        body, shape = made(name, seed)
        net = nn.Sequential(body, nn.ReLU())
        kept = converged(net, shape)
        estimate = float(kept.estimated(shape)["l2"][0].detach())
        bound = kept.verified().norms["l2"].product
        assert bound * 0.99 <= estimate <= bound * (1 + 1e-6)


def test_gradients_of_a_folded_estimate_are_those_of_its_norm():
    body, shape = made("convolution, norm", 3)
    net = nn.Sequential(body, nn.ReLU())
    kept = converged(net, shape)
    weight = body[0].weight
    (found,) = torch.autograd.grad(kept.estimated(shape)["l2"][0], weight)
    for place in ((0, 0, 1, 1), (2, 0, 0, 2)):
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[place] += step
                ends.append(kept.verified().norms["l2"].product)
                weight[place] -= step
        assert float(found[place]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-3)


def test_two_convolutions_are_not_taken_for_one():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(2, 2, 3), nn.Conv1d(2, 2, 3), nn.ReLU())
    kept = NetworkLipschitz(net, ["l2"], 2, (2, 9))
    assert segments_of(kept.live_graph((2, 9))) == {}


def test_train_mode_and_statistics_are_left_alone():
    torch.manual_seed(0)
    net = nn.Sequential(Residual(nn.Conv2d(2, 2, 3, padding=1)), nn.BatchNorm2d(2), nn.Dropout())
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    kept = NetworkLipschitz(net, ["l2"], 2, (2, 4, 4))
    value, _ = kept.estimated((2, 4, 4))["l2"]
    again, _ = kept.eval().estimated((2, 4, 4))["l2"]
    assert torch.isfinite(value)
    assert torch.isfinite(again)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
