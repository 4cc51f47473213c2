"""Rules of layers on images and of activations pass the suite."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxcert.testing import RuleConformance


class TestConvolution(RuleConformance):
    input_shape = (2, 4, 4)
    seeds = (0,)

    def make_layer(self):
        return nn.Conv2d(2, 2, 3, stride=2, padding=1)


class TestTransposedConvolution(RuleConformance):
    input_shape = (2, 3, 3)
    seeds = (0,)

    def make_layer(self):
        return nn.ConvTranspose2d(2, 1, 2, stride=2, bias=False)


class TestAveragePooling(RuleConformance):
    input_shape = (1, 4, 4)
    seeds = (0,)

    def make_layer(self):
        return nn.AvgPool2d(3, stride=1, padding=1)


class TestMaximumPooling(RuleConformance):
    input_shape = (1, 4, 4)
    seeds = (0,)

    def make_layer(self):
        return nn.MaxPool2d(3, stride=2)


class TestBatchNorm(RuleConformance):
    input_shape = (3, 2, 2)
    seeds = (0, 1)

    def make_layer(self):
        layer = nn.BatchNorm2d(3)
        nn.init.normal_(layer.weight)
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.1, 2.0)
        return layer


@pytest.mark.parametrize(
    "make", [nn.Tanh, nn.Sigmoid, nn.Softplus, nn.GELU, nn.SiLU, lambda: nn.LeakyReLU(-1.5)]
)
class TestActivations:
    """One suite a kind, on the checks of the bound."""

    def test_bound_estimate_and_rounding(self, make):
        class Suite(RuleConformance):
            input_shape = (3,)
            seeds = (0,)

            def make_layer(self):
                return make()

        suite = Suite()
        for name in dir(Suite):
            if name.startswith("test_"):
                getattr(suite, name)()


def test_the_grid_of_seeds_is_reproducible():
    first, second = (TestConvolution().layer(0).weight for _ in range(2))
    assert torch.equal(first, second)
