"""The symbol of a convolution on a torus, other norms, average pooling."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import pytest
import torch
from torch import nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz import verified_spectral_norm
from relaxcert.lipschitz.batched import batch_squared_norm
from relaxcert.lipschitz.convolution import (
    Convolution,
    induced_norm,
    operations,
    spectral_norm,
)
from relaxcert.lipschitz.convolution_symbol import absolute_taps, symbols, torus_size, unit_roots
from relaxcert.lipschitz.directed import UNIT, gamma
from tests.lipschitz.convolutions import (
    POOL,
    dense,
    filled,
)
from tests.networks import randn


class TestSymbol:
    @pytest.mark.parametrize("order", [1, 2, 3, 4, 9, 33, 224, 1551])
    def test_roots_of_unity_are_within_u(self, order):
        with mpmath.workprec(200):
            for r, (cos, sin) in enumerate(unit_roots(order).tolist()):
                angle = 2 * mpmath.pi * r / order
                assert abs(mpmath.mpf(cos) - mpmath.cos(angle)) <= 2.0**-53
                assert abs(mpmath.mpf(sin) - mpmath.sin(angle)) <= 2.0**-53
                assert max(abs(cos), abs(sin)) <= 1.0

    def test_error_of_the_symbol_is_within_delta(self):
        layer = filled(nn.Conv2d(2, 3, (3, 5), padding=(1, 2)), 15)
        conv = Convolution.of(layer, (6, 5))
        taps = absolute_taps(conv, conv.weight)[0]
        limit = math.sqrt(2) * gamma(17, UNIT[torch.float64]) * taps
        real, imag = (torch.cat(part) for part in zip(*symbols(conv, conv.weight), strict=True))
        rows, columns = torus_size(conv, 0), torus_size(conv, 1)
        assert (rows, columns) == (7, 7)
        frequencies = list(itertools.product(range(rows // 2 + 1), range(columns)))
        assert len(frequencies) == len(real)
        with mpmath.workprec(200):
            for index in (0, 1, 5, 12, len(frequencies) - 1):
                w = frequencies[index]
                for o, i in itertools.product(range(3), range(2)):
                    exact = mpmath.mpc(0)
                    for a, b in itertools.product(range(3), range(5)):
                        phase = mpmath.mpf(w[0] * a) / rows + mpmath.mpf(w[1] * b) / columns
                        exact += mpmath.mpf(float(conv.weight[o, i, a, b])) * mpmath.expjpi(
                            2 * phase
                        )
                    found = mpmath.mpc(float(real[index, o, i]), float(imag[index, o, i]))
                    assert abs(found - exact) <= float(limit[o, i])

    def test_kernels_no_longer_than_their_stride_need_one_frequency(self):
        layer = filled(nn.Conv2d(3, 8, 4, stride=4), 16)
        conv = Convolution.of(layer, (32, 32))
        ((real, imag),) = symbols(conv, conv.weight)
        assert real.shape == (1, 8, 48)
        assert not bool(imag.any())
        exact = verified_spectral_norm(layer.weight.flatten(1))
        assert spectral_norm(conv).value == pytest.approx(exact, rel=1e-8)

    @pytest.mark.parametrize("shape", [(5, 3, 4), (5, 4, 3), (2, 1, 7), (1, 1, 1)])
    def test_batched_norm(self, shape):
        real, imag = randn(17, *shape), randn(18, *shape)
        truth = float(torch.linalg.matrix_norm(torch.complex(real, imag), 2).max())
        assert truth**2 <= batch_squared_norm(real, imag, 1e-9) <= truth**2 * (1 + 1e-8)

    def test_batched_residual_sees_a_wrong_factor(self, monkeypatch):
        real, imag = randn(19, 4, 6, 8), randn(20, 4, 6, 8)
        honest = batch_squared_norm(real, imag, 1e-9)
        factor = torch.linalg.cholesky_ex

        def off(matrix):
            found, failed = factor(matrix)
            return found * (1 + 1e-4), failed

        monkeypatch.setattr(torch.linalg, "cholesky_ex", off)
        assert batch_squared_norm(real, imag, 1e-9) > honest * (1 + 1e-5)

    def test_batched_norm_with_a_guess_that_is_too_low(self, monkeypatch):
        real, imag = randn(21, 4, 6, 8), randn(22, 4, 6, 8)
        truth = float(torch.linalg.matrix_norm(torch.complex(real, imag), 2).max()) ** 2
        monkeypatch.setattr("relaxcert.lipschitz.batched._guess", lambda gram, floor: 0.1)
        assert truth <= batch_squared_norm(real, imag, 1e-9) <= truth * (1 + 1e-6)


class TestOtherNorms:
    @pytest.mark.parametrize("stride", [1, 2])
    def test_sums_are_those_of_the_interior(self, stride):
        layer = filled(nn.Conv2d(3, 4, 3, stride=stride, padding=1), 23)
        conv = Convolution.of(layer, (8, 8))
        matrix = dense(layer, 3, (8, 8)).abs()
        assert induced_norm(conv, "linf") == pytest.approx(float(matrix.sum(1).max()), rel=1e-13)
        assert induced_norm(conv, "l1") == pytest.approx(float(matrix.sum(0).max()), rel=1e-13)

    def test_transposed_layers_exchange_l1_and_linf(self):
        layer = filled(
            nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), 24
        )
        conv = Convolution.of(layer, (6, 6))
        matrix = dense(layer, 4, (6, 6)).abs()
        assert conv.layer_output_size == (12, 12)
        assert induced_norm(conv, "linf") == pytest.approx(float(matrix.sum(1).max()), rel=1e-13)
        assert induced_norm(conv, "l1") == pytest.approx(float(matrix.sum(0).max()), rel=1e-13)
        assert operations(conv) == 2 * 9 + 1

    def test_l2_is_the_spectral_norm(self):
        conv = Convolution.of(filled(nn.Conv1d(2, 3, 3), 25), (9,))
        assert induced_norm(conv, "l2") == spectral_norm(conv).value

    def test_operations(self):
        assert operations(Convolution.of(nn.Conv2d(6, 4, (3, 5), groups=2), (9, 9))) == 3 * 15 + 1


class TestPooling:
    @pytest.mark.parametrize("dims", [1, 2, 3])
    @pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, None, 0), (3, 2, 1), (3, 1, 1)])
    def test_average_pooling(self, dims, kernel, stride, padding):
        layer = POOL[dims](kernel, stride, padding)
        size = (6,) * dims
        conv = Convolution.of(layer, size)
        matrix = dense(layer, 2, size)
        truth = float(torch.linalg.matrix_norm(matrix, 2))
        assert truth * (1 - 1e-13) <= spectral_norm(conv).value <= 1.5 * truth
        assert truth * (1 - 1e-13) <= spectral_norm(conv, tight=True).value <= truth * (1 + 1e-6)
        for norm, dim in (("l1", 0), ("linf", 1)):
            assert induced_norm(conv, norm) >= float(matrix.abs().sum(dim).max()) * (1 - 1e-15)
        assert operations(conv) == kernel**dims + 1

    def test_the_rounding_of_one_third_is_counted(self):
        conv = Convolution.of(nn.AvgPool1d(3), (9,))
        assert Fraction(induced_norm(conv, "l1")) >= Fraction(1, 3)
        assert Fraction(induced_norm(conv, "linf")) >= 1
        assert Fraction(spectral_norm(conv).value) ** 2 >= Fraction(1, 3)

    def test_divisor_override(self):
        layer = nn.AvgPool2d(2, divisor_override=3)
        truth = float(torch.linalg.matrix_norm(dense(layer, 1, (4, 4)), 2))
        assert truth <= spectral_norm(Convolution.of(layer, (4, 4))).value <= truth * (1 + 1e-8)

    def test_what_is_no_convolution_is_refused(self):
        with pytest.raises(UnsupportedLayer, match="count_include_pad"):
            Convolution.of(nn.AvgPool2d(3, padding=1, count_include_pad=False), (6, 6))
        with pytest.raises(UnsupportedLayer, match="ceil_mode"):
            Convolution.of(nn.AvgPool2d(2, ceil_mode=True), (5, 4))
        Convolution.of(nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), (4, 4))
