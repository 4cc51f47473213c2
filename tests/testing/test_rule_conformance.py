"""The rules that relaxcert ships pass the suite."""

from __future__ import annotations

import torch
from torch import nn

from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.testing import RuleConformance


class TestLinear(RuleConformance):
    input_shape = (4,)

    def make_layer(self):
        return nn.Linear(4, 3)


class TestWideLinearWithoutBias(RuleConformance):
    input_shape = (2, 3)

    def make_layer(self):
        return nn.Linear(3, 5, bias=False)


class TestReLU(RuleConformance):
    input_shape = (4,)

    def make_layer(self):
        return nn.ReLU()

    def exact_constant(self, layer, norm):
        return 1.0


class TestMinMax(RuleConformance):
    input_shape = (4,)

    def make_layer(self):
        return MinMax()

    def exact_constant(self, layer, norm):
        return 1.0


class TestInputNormalisation(RuleConformance):
    input_shape = (3, 2)

    def make_layer(self):
        std = torch.rand(3, 1) + 0.1
        return InputNormalisation(torch.randn(3, 1), std)
