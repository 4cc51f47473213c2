"""Test a network like a verification engineer: ``pytest examples/verify_network.py``, or run it.

Then let ``make_network`` return ``Hasty`` in place of ``GloRoNet``, and run it again.
"""

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from relaxcert import Certificates, GloRoNet, RelaxedTopK
from relaxcert.data import landsat
from relaxcert.nn import dense
from relaxcert.testing import NetworkConformance


class Hasty(GloRoNet):
    """Certifies nine tenths of the ball and calls it the whole."""

    def certify(self, inputs: Tensor, **more: int) -> Certificates:
        smaller = self.prop.with_eps(self.prop.balls[0].eps * Fraction(9, 10))
        certificates = GloRoNet(self.backbone, smaller).certify(inputs, **more)
        return replace(certificates, prop=self.prop)


def make_network() -> GloRoNet:
    torch.manual_seed(0)
    return GloRoNet(dense(36, [32, 32], 6), RelaxedTopK(k=3, eps="0.03"))


class TestMyNetwork(NetworkConformance):
    @pytest.fixture
    def certified_network(self) -> GloRoNet:
        return make_network()

    @pytest.fixture
    def relaxcert_points(self) -> Tensor:
        return landsat("test").inputs[:100]


def main() -> int:
    plugin = ["-p", "relaxcert.testing.plugin", "--relaxcert-profile", "quick"]
    return subprocess.run([sys.executable, "-m", "pytest", "-q", *plugin, __file__]).returncode


if __name__ == "__main__":
    sys.exit(main())
