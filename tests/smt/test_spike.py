"""A violation that no sample and no gradient finds: only the solver does."""

from __future__ import annotations

import torch
from torch import nn

from relaxcert import GloRoNet, Local, crosscheck


def test_a_spike_far_from_every_sample_is_found():
    """f_1 = 2 on a spike of width 2^-12 around 0.3, and 0 elsewhere, where its slope is 0 too."""
    half, height = 2.0**-13, 2.0
    backbone = nn.Sequential(nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        backbone[0].weight.zero_()
        backbone[0].weight[:, 0] = 1.0  # of 16 inputs: few are cut into boxes until all is settled
        backbone[0].bias.copy_(-torch.tensor([0.3 - half, 0.3, 0.3 + half]).double())
        backbone[2].weight.copy_(torch.tensor([[0.0] * 3, [1.0, -2.0, 1.0]]) * height / half)
        backbone[2].bias.copy_(torch.tensor([1.0, 0.0]))
    net = GloRoNet(backbone, Local(eps=1, norm="linf")).eval()
    found = crosscheck(net, torch.zeros(1, 16, dtype=torch.float64), budget=20.0)
    assert found.records[0]["solver_calls"] > 0
    assert [record["answer"] for record in found.records] == ["falsified"]
