"""Small networks of every structure pass the checks that users run on theirs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxcert.heads import GloRoNet
from relaxcert.nn.elementwise import Abs
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, Targeted
from relaxcert.testing import NetworkConformance
from relaxcert.testing.profiles import Effort


class Small(NetworkConformance):
    shape = (4,)

    @pytest.fixture
    def relaxcert_effort(self):
        return Effort(points=12, edges=24, steps=15, restarts=2, judged=1, examples=10)

    @pytest.fixture
    def relaxcert_points(self):
        return torch.randn(30, *self.shape, generator=torch.Generator().manual_seed(3))


class TestDense(Small):
    @pytest.fixture
    def certified_network(self):
        torch.manual_seed(1)
        backbone = nn.Sequential(
            InputNormalisation(0.5, torch.tensor([1.0, 0.5, 2.0, 0.25])),
            nn.Linear(4, 6), MinMax(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4),
        )  # fmt: skip
        return GloRoNet(backbone, RelaxedTopK(2, eps="0.1"))


class TestTwoNorms(Small):
    @pytest.fixture
    def certified_network(self):
        torch.manual_seed(2)
        backbone = nn.Sequential(nn.Linear(4, 6), MinMax(), nn.Linear(6, 4))
        far = Targeted.neighbours([0, 1, 2, 3], eps="0.04", norm="l1")
        return GloRoNet(backbone, far & Local(eps="0.01", norm="linf"))


class TestPointwise(Small):
    @pytest.fixture
    def certified_network(self):
        torch.manual_seed(3)
        backbone = nn.Sequential(nn.Linear(4, 8), MinMax(), nn.Linear(8, 4))
        sets = AffinitySets([[0, 1, 2], [3]], 4)
        return GloRoNet(backbone, Affinity(sets, eps="0.1", quantifier="pointwise"))


class Residual(nn.Module):
    """x + |W x| beside x: on some side of every kink both parts of the sum pull together."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.bend, self.other = nn.Linear(4, 4), Abs(), Abs()
        self.last = nn.Linear(8, 3)
        with torch.no_grad():
            self.inner.weight.copy_(0.9 * torch.eye(4))
            self.inner.bias.zero_()

    def forward(self, inputs):
        summed = inputs + self.bend(self.inner(inputs))
        return self.last(torch.cat([summed, self.other(inputs)], dim=1))


class TestResidualAndConcatenation(Small):
    @pytest.fixture
    def certified_network(self):
        torch.manual_seed(4)
        net = Residual()
        with torch.no_grad():  # f_0 - f_1 reads where everything grows
            net.last.weight[0] = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 1]) / 8
            net.last.weight[1] = -net.last.weight[0]
        return GloRoNet(net, Local(eps="0.02"))


class TestConvolution(Small):
    shape = (1, 4, 4)

    @pytest.fixture
    def certified_network(self):
        torch.manual_seed(5)
        backbone = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), MinMax(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)
        )
        return GloRoNet(backbone, Local(eps="0.02"), input_shape=(1, 4, 4))
