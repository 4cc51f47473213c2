"""Training on the margin of the label: ``loss = "certified-set"``."""

from __future__ import annotations

import pytest
import torch

from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.nn.networks import dense
from relaxcert.spec import Affinity, AffinitySets, Targeted
from relaxcert.training import evaluate, fit
from tests.networks import randn
from tests.training.toy import settings

PAIRS = Affinity(AffinitySets.adjacent([0, 1, 2, 3]), eps=0.1)


def staircase(points: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Four classes along a line; neighbours overlap, so that only pairs can be separated."""
    position = 4.0 * torch.rand(points, generator=torch.Generator().manual_seed(0))
    labels = (position + 0.4 * randn(1, points, dtype=torch.float32)).floor().clamp(0, 3).long()
    return torch.stack((position, torch.zeros(points)), dim=1), labels


def network() -> GloRoNet:
    torch.manual_seed(0)
    return GloRoNet(dense(2, [8, 8], 4), PAIRS)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_it_raises_the_vra(orthogonal):
    data, net = staircase(), network()
    before, _ = evaluate(net, *data)
    given = {"temperature": 0.2, "ranking_weight": 0.1, "orthogonal": orthogonal}
    history = fit(net, data, settings(10, loss="certified-set", **given), progress=False)
    after, _ = evaluate(net, *data)
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert after.vra > max(0.7, before.vra + 0.2)


def test_a_property_whose_certificates_have_no_set_is_refused():
    torch.manual_seed(0)
    net = GloRoNet(dense(2, [8], 4), Targeted.neighbours([0, 1, 2, 3], eps=0.1))
    with pytest.raises(InvalidInput, match="needs a certificate with a set"):
        fit(net, staircase(), settings(loss="certified-set"), progress=False)
