"""Norms of convolutions: never below the true operator, and known mistakes are."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.lipschitz import convolution_symbol, verified_spectral_norm
from relaxcert.lipschitz.convolution import (
    Convolution,
    absolute_norm,
    induced_norm,
    spectral_norm,
)
from relaxcert.lipschitz.convolution_symbol import symbols, torus_size
from tests.lipschitz.convolutions import (
    dense,
    exact_sum_norm,
    filled,
    random_layer,
    search,
)
from tests.lipschitz.exact import at_least_spectral_norm


class TestRandomSearch:
    @pytest.mark.parametrize("seed", range(8))
    def test_no_bound_is_below_the_true_operator(self, seed):
        rng = random.Random(seed)
        for _ in range(75):
            layer, channels, size = random_layer(rng)
            matrix = dense(layer, channels, size)
            conv = Convolution.of(layer, size)
            truth = float(torch.linalg.matrix_norm(matrix, 2))
            value, tight = spectral_norm(conv).value, spectral_norm(conv, tight=True).value
            assert truth * (1 - 1e-13) <= tight <= value, (layer, size)
            if not conv.circular:
                assert tight <= truth * (1 + 1e-6) + 1e-100, (layer, size)
                if min(matrix.shape) <= 6:
                    assert at_least_spectral_norm(tight, matrix), (layer, size)
            absolute = float(torch.linalg.matrix_norm(matrix.abs(), 2))
            assert absolute_norm(conv, "l2") >= absolute * (1 - 1e-13)
            for norm, dim in (("l1", 0), ("linf", 1)):
                bound = induced_norm(conv, norm)
                assert absolute_norm(conv, norm) == bound
                if conv.circular:  # taps that meet in one input were added with rounding
                    assert bound >= float(matrix.abs().sum(dim).max()) * (1 - 1e-13)
                elif matrix.numel() <= 3000:
                    assert Fraction(bound) >= exact_sum_norm(matrix, dim), (layer, size)

    def test_the_search_would_find_a_torus_that_is_too_short(self, monkeypatch):
        short = lambda conv, dim: -(-conv.input_size[dim] // conv.stride[dim])  # noqa: E731
        monkeypatch.setattr(convolution_symbol, "torus_size", short)
        violations, _ = search(100, seed=0)
        assert violations >= 3

    @pytest.mark.parametrize("term", range(2))
    def test_both_reaches_of_the_size_condition_are_needed(self, monkeypatch, term):
        def without(conv, dim):
            s, left, outputs = conv.stride[dim], conv.padding[dim][0], conv.output_size[dim]
            n = conv.input_size[dim]
            terms = [n + left, s * (outputs - 1) + conv.extent[dim] - left, s * outputs]
            del terms[term]
            return -(-max(n, *terms) // s)

        monkeypatch.setattr(convolution_symbol, "torus_size", without)
        rng = random.Random(1)
        for _ in range(1500):
            n, k, s = rng.randint(1, 8), rng.randint(1, 5), rng.randint(1, 3)
            left, right = rng.randint(0, 4), rng.randint(0, 4)
            if n + left + right < k:
                continue
            weight = torch.tensor([[[rng.gauss(0, 1) for _ in range(k)]]], dtype=torch.float64)
            conv = Convolution(weight, (n,), (s,), ((left, right),), (1,))
            padded = nn.functional.pad(torch.eye(n, dtype=torch.float64)[:, None], (left, right))
            matrix = nn.functional.conv1d(padded, weight, stride=s).flatten(1)
            if spectral_norm(conv).value < float(torch.linalg.matrix_norm(matrix, 2)) * (1 - 1e-9):
                return
        pytest.fail("the size condition has a reach that no case needs")


class TestKnownMistakes:
    def test_circular_embedding_of_the_input_size_is_too_low(self, monkeypatch):
        """Case 11: y_q = x_(q+1) - x_q on three inputs: sqrt(3) on the 3-torus, 1.802 in truth."""
        layer = nn.Conv1d(1, 1, 2, padding="same", bias=False).double()
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[[-1.0, 1.0]]]))
        conv = Convolution.of(layer, (3,))
        truth = 2 * math.cos(math.pi / 7)
        assert torch.linalg.matrix_norm(dense(layer, 1, (3,)), 2) == pytest.approx(truth)
        assert truth <= spectral_norm(conv, tight=True).value <= truth * (1 + 1e-8)
        assert torus_size(conv, 0) == 4
        assert spectral_norm(conv).value >= truth
        monkeypatch.setattr(convolution_symbol, "torus_size", lambda conv, dim: 3)
        assert spectral_norm(conv).value == pytest.approx(math.sqrt(3))

    def test_reshaped_kernel_is_too_low(self):
        layer = filled(nn.Conv2d(3, 4, 3, padding=1), 5)
        truth = float(torch.linalg.matrix_norm(dense(layer, 3, (8, 8)), 2))
        assert verified_spectral_norm(layer.weight.flatten(1)) < 0.9 * truth
        assert truth <= spectral_norm(Convolution.of(layer, (8, 8))).value <= 1.1 * truth

    def test_fewer_frequencies_than_all_are_too_low(self, monkeypatch):
        everything = symbols
        layer = filled(nn.Conv1d(1, 1, 3, padding=1), 6)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[[-1.0, 2.0, -1.0]]]))
        conv = Convolution.of(layer, (9,))
        truth = float(torch.linalg.matrix_norm(dense(layer, 1, (9,)), 2))
        assert spectral_norm(conv).value >= truth

        def fewer(conv, weight):
            for real, imag in everything(conv, weight):
                yield real[:4], imag[:4]

        monkeypatch.setattr(convolution_symbol, "symbols", fewer)
        assert spectral_norm(conv).value < truth
