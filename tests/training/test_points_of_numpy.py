"""Training on float64 points, as numpy makes them, is training on the same in float32."""

from __future__ import annotations

import torch

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.nn import dense
from relaxcert.spec import RelaxedTopK
from relaxcert.training import Optimisation, fit


def trained(points: torch.Tensor, labels: torch.Tensor) -> GloRoNet:
    torch.manual_seed(0)
    net = GloRoNet(dense(4, [8], 3), RelaxedTopK(2, eps="0.1"))
    fit(net, (points, labels), Optimisation(epochs=2, batch_size=16), progress=False)
    return net


def test_float64_points_are_rounded_to_the_weights():
    draw = torch.Generator().manual_seed(1)
    points = torch.rand(64, 4, dtype=torch.float64, generator=draw)
    labels = torch.randint(3, (64,), generator=draw)
    one, other = trained(points, labels), trained(points.float(), labels)
    assert one.verify().fingerprint == other.verify().fingerprint
    assert next(one.backbone.parameters()).dtype == torch.float32
