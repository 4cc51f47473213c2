"""Every layer's encoder against torch: exact rational logits and float64 logits agree."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.errors import InvalidInput, InvalidWeights, UnsupportedLayer
from relaxcert.nn.elementwise import Abs
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.nn.shapes import GroupSort, InvertibleDownsampling, Permute
from relaxcert.smt.audit import logits_fault
from relaxcert.smt.translate import exact_network
from tests.networks import randn


class Residual(nn.Module):
    """A sum, a difference and a concatenation, with units before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 6)
        self.sort, self.relu, self.last = MinMax(), nn.ReLU(), nn.Linear(12, 3)

    def forward(self, inputs):
        hidden = self.sort(self.first(inputs))
        added = hidden + self.relu(self.second(hidden))
        return self.last(torch.cat([added, added - hidden], dim=1))


def flat(*layers, features, classes=3):
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, classes))


CASES = {
    "dense": (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (4,)),
    "no units": (nn.Sequential(nn.Linear(4, 3)), (4,)),
    "relu6 and abs": (
        nn.Sequential(nn.Linear(4, 6), nn.ReLU6(), nn.Linear(6, 4), Abs(), nn.Linear(4, 3)),
        (4,),
    ),
    "minmax": (nn.Sequential(nn.Linear(4, 6), MinMax(), nn.Linear(6, 3), nn.Identity()), (4,)),
    "groupsort": (nn.Sequential(nn.Linear(4, 10), GroupSort(5), nn.Linear(10, 3)), (4,)),
    "normalised": (nn.Sequential(InputNormalisation(0.3, 0.7), nn.Linear(4, 3)), (4,)),
    "residual": (Residual(), (4,)),
    "moved": (
        flat(InvertibleDownsampling(), Permute(0, 2, 3, 1), nn.ReLU(), features=16),
        (1, 4, 4),
    ),
    "convolution": (
        flat(
            nn.Conv2d(2, 4, 3, stride=2, padding=1),
            MinMax(),
            nn.ConvTranspose2d(4, 2, 2, groups=2),
            nn.LeakyReLU(0.1),
            features=32,
        ),
        (2, 5, 5),
    ),
    "pooling": (
        flat(
            nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
            nn.AvgPool2d(2, stride=1, padding=1, count_include_pad=False),
            nn.ZeroPad2d(1),
            nn.AdaptiveMaxPool2d(3),
            features=18,
        ),
        (2, 6, 6),
    ),
    "prelu": (nn.Sequential(nn.Linear(4, 6), nn.PReLU(6), nn.Linear(6, 3)), (4,)),
    "parametrised": (
        nn.Sequential(
            nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 3)
        ).eval(),
        (4,),
    ),
    "rows": (flat(nn.Linear(3, 2), nn.ReLU(), features=8), (4, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_logits_agree_with_torch(name):
    backbone, shape = CASES[name]
    backbone.double()
    for parameter in backbone.parameters():
        parameter.data.copy_(randn(len(name), *parameter.shape))
    network = exact_network(backbone, shape)
    for seed in range(4):
        point = randn(seed, *shape) * 3
        with torch.no_grad():
            computed = backbone(point[None])[0].tolist()
        exact_point = tuple(map(Fraction, point.flatten().tolist()))
        assert logits_fault(network, exact_point, computed) == ""
        # Half a unit of the last place of float32 off is a fault.
        assert logits_fault(network, exact_point, [v * (1 + 2**-25) for v in computed])


def test_batch_norm_whose_root_is_rational_is_exact():
    backbone = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, eps=0.25), nn.Linear(3, 2)).double()
    backbone[1].running_var.copy_(torch.tensor([2.0, 0.75, 0.0]))  # roots 1.5, 1, 0.5
    backbone[1].running_mean.copy_(torch.tensor([1.0, -2.0, 0.5]))
    backbone.eval()
    network = exact_network(backbone, (2,))
    point = torch.tensor([[0.5, -1.25]], dtype=torch.float64)
    computed = backbone(point)[0].tolist()
    assert logits_fault(network, tuple(map(Fraction, point[0].tolist())), computed) == ""
    assert not network.has_doubt
    backbone[1].running_var.fill_(1.0)
    assert exact_network(backbone, (2,)).has_doubt  # tests/smt/test_batch_norm.py


def test_padding_that_adds_weights_up_is_refused():
    backbone = flat(nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"), features=2)
    with pytest.raises(UnsupportedLayer, match=r"use zero padding|circular"):
        exact_network(backbone, (1, 2))


def test_dropout_is_off_and_the_network_is_left_alone():
    backbone = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.ReLU(), nn.Linear(4, 2)).train()
    network = exact_network(backbone, (2,))
    assert backbone.training
    assert backbone[0].weight.dtype == torch.float32
    point = (Fraction(1, 3), Fraction(-2))
    assert network.logits(point) == exact_network(backbone.eval(), (2,)).logits(point)


def test_what_cannot_be_encoded_is_refused():
    with pytest.raises(UnsupportedLayer, match="Sigmoid, a smooth function"):
        exact_network(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2)), (2,))
    broken = nn.Sequential(nn.Linear(2, 2))
    broken[0].weight.data[0, 0] = torch.nan
    with pytest.raises(InvalidWeights, match=r"0\.weight holds NaN"):
        exact_network(broken, (2,))
    with pytest.raises(InvalidInput, match="returns shape"):
        exact_network(nn.Sequential(nn.Linear(2, 3)), (4, 2))
