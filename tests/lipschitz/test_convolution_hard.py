"""Folded residuals, hard weights, and what is refused."""

from __future__ import annotations

import itertools
import math
import warnings
from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.errors import InvalidInput, InvalidWeights, UnsupportedLayer, UnsupportedPrecision
from relaxcert.lipschitz.banded import tight_norm
from relaxcert.lipschitz.convolution import (
    Convolution,
    absolute_norm,
    folded_residual,
    induced_norm,
    spectral_norm,
)
from tests.lipschitz.convolutions import (
    dense,
    filled,
)


class TestFoldedResidual:
    @pytest.mark.parametrize("transposed", [False, True])
    @pytest.mark.parametrize("groups", [1, 2])
    @pytest.mark.parametrize(("identity", "scale"), [(1.0, 0.1), (0.3, -0.7), (-1.0, 1e-20)])
    def test_against_the_sum(self, identity, scale, groups, transposed):
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        layer = filled(kind(4, 4, 3, padding=1, groups=groups), 26)
        conv = folded_residual(Convolution.of(layer, (5, 6)), identity, scale)
        matrix = dense(layer, 4, (5, 6))
        summed = identity * torch.eye(len(matrix), dtype=torch.float64) + scale * matrix
        truth = float(torch.linalg.matrix_norm(summed, 2))
        tight = spectral_norm(conv, tight=True).value
        assert truth * (1 - 1e-13) <= tight <= truth * (1 + 1e-6)
        assert truth <= spectral_norm(conv).value
        for norm, dim in (("l1", 0), ("linf", 1)):
            truth = float(summed.abs().sum(dim).max())
            assert truth * (1 - 1e-14) <= induced_norm(conv, norm) <= truth * (1 + 1e-12)

    def test_the_rounding_of_the_kernel_is_bounded_exactly(self):
        conv = Convolution.of(filled(nn.Conv1d(3, 3, 3, padding=1), 27), (8,))
        folded = folded_residual(folded_residual(conv, 1 / 3, 0.7), 0.1, 1 / 7)
        assert folded.error is not None
        for o, i, j in itertools.product(range(3), repeat=3):
            value = Fraction(float(conv.weight[o, i, j])) * Fraction(0.7) * Fraction(1 / 7)
            if o == i and j == 1:
                value += Fraction(1 / 3) * Fraction(1 / 7) + Fraction(0.1)
            error = abs(value - Fraction(float(folded.weight[o, i, j])))
            assert error <= Fraction(float(folded.error[o, i, j])) <= Fraction(1, 2**48)

    def test_circular_and_dilated(self):
        layer = filled(nn.Conv1d(2, 2, 3, padding="same", dilation=2, padding_mode="circular"), 28)
        conv = folded_residual(Convolution.of(layer, (7,)), 1.0, 0.5)
        summed = torch.eye(14, dtype=torch.float64) + 0.5 * dense(layer, 2, (7,))
        truth = float(torch.linalg.matrix_norm(summed, 2))
        assert truth <= spectral_norm(conv).value <= truth * (1 + 1e-8)

    @pytest.mark.parametrize(
        "layer",
        [
            nn.Conv1d(2, 3, 3, padding=1),
            nn.Conv1d(2, 2, 3),
            nn.Conv1d(2, 2, 3, padding=1, stride=2),
            nn.Conv1d(2, 2, 4, padding="same", dilation=3),
        ],
    )
    def test_shapes_that_do_not_fit(self, layer):
        with pytest.raises(InvalidInput, match="residual"):
            folded_residual(Convolution.of(layer, (8,)), 1.0)


class TestHardWeights:
    @pytest.mark.parametrize("scale", [1e-300, 1e300, 1e-320])
    def test_scales(self, scale):
        layer = filled(nn.Conv2d(2, 3, 3, padding=1), 29)
        one = spectral_norm(Convolution.of(layer, (5, 5)), tight=True).value
        with torch.no_grad():
            layer.weight.mul_(scale)
        conv = Convolution.of(layer, (5, 5))
        for value in (spectral_norm(conv).value, spectral_norm(conv, tight=True).value):
            assert one * scale * (1 - 1e-2) <= value
            assert math.isfinite(value)
        assert spectral_norm(conv, tight=True).value == pytest.approx(one * scale, rel=1e-2)
        for norm in ("l1", "l2", "linf"):
            assert 0 < absolute_norm(conv, norm) < math.inf

    def test_overflow_is_infinite(self):
        layer = filled(nn.Conv2d(8, 8, 3, padding=1), 30)
        with torch.no_grad():
            layer.weight.fill_(1e308)
        conv = Convolution.of(layer, (5, 5))
        assert spectral_norm(conv).value == math.inf
        assert induced_norm(conv, "l1") == math.inf

    def test_zero(self):
        layer = filled(nn.Conv2d(2, 3, 3), 31)
        with torch.no_grad():
            layer.weight.zero_()
        conv = Convolution.of(layer, (5, 5))
        assert spectral_norm(conv).value == spectral_norm(conv, tight=True).value == 0.0
        assert absolute_norm(conv, "l1") == absolute_norm(conv, "l2") == 0.0

    def test_one_zero_group(self):
        layer = filled(nn.Conv2d(4, 4, 3, groups=2, padding=1), 32)
        with torch.no_grad():
            layer.weight[2:] = 0
        truth = float(torch.linalg.matrix_norm(dense(layer, 4, (5, 5)), 2))
        assert (
            truth
            <= spectral_norm(Convolution.of(layer, (5, 5)), tight=True).value
            <= truth * 1.000001
        )

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_not_finite(self, value):
        layer = nn.Conv2d(2, 3, 3)
        with torch.no_grad():
            layer.weight[0, 0, 0, 0] = value
        with pytest.raises(InvalidWeights, match="NaN or infinite"):
            Convolution.of(layer, (5, 5))

    def test_no_channels(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layer = nn.Conv2d(0, 3, 3)
        with pytest.raises(InvalidWeights, match="empty"):
            Convolution.of(layer, (5, 5))

    def test_complex_weights(self):
        with pytest.raises(UnsupportedPrecision, match="complex"):
            Convolution.of(nn.Conv2d(1, 1, 3, dtype=torch.complex64), (5, 5))

    def test_single_precision_is_taken_exactly(self):
        layer = nn.Conv2d(2, 3, 3)
        conv = Convolution.of(layer, (5, 5))
        assert conv.weight.dtype == torch.float64
        assert torch.equal(conv.weight.float(), layer.weight)


class TestRefusals:
    @pytest.mark.parametrize("mode", ["reflect", "replicate"])
    def test_other_padding_modes(self, mode):
        with pytest.raises(UnsupportedLayer, match=mode):
            Convolution.of(nn.Conv2d(1, 1, 3, padding=1, padding_mode=mode), (5, 5))
        Convolution.of(nn.Conv2d(1, 1, 3, padding_mode=mode), (5, 5))

    def test_circular_maps_without_a_torus(self):
        layer = nn.Conv1d(1, 1, 3, padding=1, stride=2, padding_mode="circular")
        with pytest.raises(UnsupportedLayer, match="torus"):
            Convolution.of(layer, (5,))
        with pytest.raises(UnsupportedLayer, match="torus"):
            Convolution.of(nn.Conv1d(1, 1, 1, padding=1, padding_mode="circular"), (5,))

    @pytest.mark.parametrize("size", [(5,), (5, 5, 5), (0, 5), (2, 2)])
    @pytest.mark.parametrize("layer", [nn.Conv2d(1, 1, 3), nn.AvgPool2d(3)])
    def test_sizes_that_do_not_fit(self, layer, size):
        with pytest.raises(InvalidInput, match="input_size"):
            Convolution.of(layer, size)

    def test_direct_construction_checks_too(self):
        with pytest.raises(UnsupportedPrecision, match="float64"):
            Convolution(torch.ones(1, 1, 3), (5,), (1,), ((0, 0),), (1,))
        weight = torch.ones(3, 1, 3, dtype=torch.float64)
        with pytest.raises(InvalidInput, match="groups"):
            Convolution(weight, (5,), (1,), ((0, 0),), (1,), groups=2)

    def test_tight_leaves_too_large_maps_to_the_torus(self):
        conv = Convolution.of(filled(nn.Conv2d(64, 64, 3, padding=1), 33), (96, 96))
        assert tight_norm(conv, conv.weight, 1.0) == math.inf
