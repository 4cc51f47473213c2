"""Sharded weights: the loss as one FSDP unit trains as one process does (docs/scale.md)."""

from __future__ import annotations

import numpy as np
import torch

from relaxcert.training.objective import Gradient, Objective
from relaxcert.training.ranks import present_ranks
from tests.ranks import in_ranks
from tests.training.toy import blobs, network, settings

STEPS = 3


def sharded():
    """Kinds of the weights between steps, and the weights after some."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    ranks = present_ranks()
    net = network().double().train()
    objective = Objective(net, settings())
    fully_shard(objective, mesh=init_device_mesh("cpu", (ranks.count,)))
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    points, labels = (tensor[ranks.rank :: ranks.count] for tensor in blobs(32))
    for _ in range(STEPS):
        optimizer.zero_grad()
        objective(points.double(), labels, torch.tensor(1.0)).backward()
        optimizer.step()
    kinds = {type(weights).__name__ for weights in net.parameters()}
    return kinds, [weights.full_tensor().detach().numpy() for weights in net.parameters()]


def test_the_loss_as_one_unit_trains_as_one_process():
    net = network().double().train()
    optimizer = torch.optim.Adam(net.backbone.parameters(), lr=1e-2)
    gradient = Gradient(net, settings(batch_size=32))
    points, labels = blobs(32)
    for _ in range(STEPS):
        optimizer.zero_grad()
        gradient.add(points.double(), labels, 1.0)
        optimizer.step()
    for kinds, weights in in_ranks(2, sharded):
        assert kinds == {"DTensor"}
        for one, other in zip(net.parameters(), weights, strict=True):
            np.testing.assert_allclose(one.detach().numpy(), other, rtol=1e-12, atol=1e-14)
