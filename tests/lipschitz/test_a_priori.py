"""Rounding that is bounded before the pass: never below the running bound, the reference."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from relaxcert.lipschitz.a_priori import Affine, rounding_beforehand
from relaxcert.lipschitz.directed import norm_surplus, norm_up
from relaxcert.lipschitz.forward import forward_with_error
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.lipschitz.tracing import trace
from relaxcert.lipschitz.verified import verify
from relaxcert.nn.layers import MinMax
from tests.networks import NORMS, linear, randn, random_backbone

DTYPES = (torch.float32, torch.float64)


class Residual(nn.Module):
    """A sum and a concatenation."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.last = nn.Linear(4, 4, dtype=dtype), nn.Linear(8, 3, dtype=dtype)
        self.activation = nn.Sigmoid()

    def forward(self, x):
        return self.last(torch.cat([x + self.inner(x), self.activation(self.inner(x))], 1))


BACKBONES = {
    "dense": lambda dtype: random_backbone(1, 4, (8, 6), 3, dtype=dtype),
    "relu": lambda dtype: random_backbone(2, 4, (5,), 3, activation=nn.ReLU, dtype=dtype),
    "normalised": lambda dtype: random_backbone(3, 4, (6,), 3, normalise=True, dtype=dtype),
    "residual": Residual,
    "folded": lambda dtype: nn.Sequential(
        *[linear(randn(place, 4, 4), dtype=dtype) for place in (1, 2)],
        linear(randn(3, 3, 4), dtype=dtype),
    ),
    "no last layer": lambda dtype: nn.Sequential(nn.Linear(4, 3, dtype=dtype), nn.Softplus()),
    "scaled": lambda dtype: nn.Sequential(
        nn.Linear(4, 6, dtype=dtype), nn.LeakyReLU(2.0), nn.Linear(6, 3, dtype=dtype)
    ),
}


def at(bound: Affine, size: float) -> Fraction:
    return Fraction(bound.at_zero) + Fraction(bound.slope) * Fraction(size)


def check_not_below_the_running_bound(backbone, inputs):
    backbone.eval()
    bounds = verify(backbone, NORMS, 3, tuple(inputs.shape[1:]))
    with torch.no_grad():
        running = forward_with_error(inputs, trace(backbone), bounds)
    known = rounding_beforehand(bounds, tuple(inputs.shape[1:]), inputs.dtype)
    met = 0
    for norm in NORMS:
        sizes = norm_up(inputs, ORDER[norm]).tolist()
        for place, size in enumerate(sizes):
            if not size <= known[norm].limit:
                continue
            met += 1
            error = running.error[norm][place].item()
            assert Fraction(error) <= at(known[norm].error, size)
            assert at(known[norm].certain, size) <= at(known[norm].error, size)
            assert Fraction(running.slack[place].max().item()) <= at(known[norm].slack, size)
            largest = running.logits[place].abs().max().item()
            assert Fraction(largest) <= at(known[norm].logits, size)
    return met


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(BACKBONES))
def test_it_is_never_below_the_running_bound(name, dtype):
    backbone = BACKBONES[name](dtype)
    for scale in (0.0, 1e-20, 1.0, 1e6):
        inputs = (scale * randn(5, 6, 4)).to(dtype)
        assert check_not_below_the_running_bound(backbone, inputs) > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_never_below_the_running_bound_of_a_convolution(dtype):
    torch.manual_seed(1)
    layers = [nn.Conv2d(2, 3, 3, padding=1), MinMax(), nn.AvgPool2d(2), nn.Flatten()]
    layers = [nn.Conv2d(2, 4, 3, padding=1), *layers[1:]]
    backbone = nn.Sequential(*layers, nn.Linear(16, 3)).to(dtype)
    assert check_not_below_the_running_bound(backbone, randn(3, 4, 2, 4, 4, dtype=dtype)) > 0


numbers = st.floats(-(2.0**20), 2.0**20, width=32)


@given(
    st.integers(0, 10**6), st.integers(1, 4), st.sampled_from(DTYPES), st.lists(numbers, min_size=4)
)
@settings(max_examples=25, deadline=None)
def test_it_is_never_below_the_running_bound_of_random_networks(seed, width, dtype, values):
    backbone = random_backbone(seed, 4, (2 * width, 4), 3, dtype=dtype)
    check_not_below_the_running_bound(backbone, torch.tensor([values[:4]], dtype=dtype))


def test_nothing_overflows_up_to_the_limit_and_it_is_of_use():
    """Weights of 1e20: partial sums leave float32 at inputs of about 1e18."""
    backbone = nn.Sequential(nn.Linear(4, 6), MinMax(), nn.Linear(6, 3)).eval()
    with torch.no_grad():
        backbone[0].weight.mul_(1e20)
    known = rounding_beforehand(verify(backbone, NORMS, 3), (4,), torch.float32)
    for norm in NORMS:
        assert 1e10 < known[norm].limit < 1e19
        points = randn(1, 50, 4, dtype=torch.float32)
        sizes = torch.linalg.vector_norm(points, ORDER[norm], dim=1, keepdim=True)
        at_limit = points / sizes * (known[norm].limit * 0.999)
        with torch.no_grad():
            assert bool(backbone(at_limit).isfinite().all())


def test_it_is_close_to_the_running_bound_on_orthogonal_networks():
    """Sound is easy with infinity."""
    backbone = nn.Sequential()
    for _ in range(3):
        layer = nn.Linear(64, 64)
        nn.init.orthogonal_(layer.weight)
        backbone.append(layer).append(MinMax())
    backbone.append(nn.Linear(64, 3)).eval()
    inputs = randn(1, 9, 64, dtype=torch.float32)
    bounds = verify(backbone, ["l2"], 3)
    with torch.no_grad():
        running = forward_with_error(inputs, trace(backbone), bounds).error["l2"]
    known = rounding_beforehand(bounds, (64,), torch.float32)["l2"]
    sizes = norm_up(inputs, 2.0).tolist()
    for error, size in zip(running.tolist(), sizes, strict=True):
        assert error <= float(at(known.error, size)) <= 1.1 * error
        assert float(at(known.certain, size)) >= 0.8 * error


@pytest.mark.parametrize("order", ORDER.values())
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_norm_up_adds_is_known(order, dtype):
    for count in (1, 7, 1000):
        factor, term = norm_surplus(count, order, dtype)
        values = randn(count, 20, count, dtype=dtype)
        found = norm_up(values, order)
        truth = torch.linalg.vector_norm(values.double(), order, dim=1)
        assert bool((found <= truth * factor * (1 + 1e-14) + term).all())


def test_the_error_grows_by_the_scale_of_folded_pairs():
    """D is smaller there, so that an error of h moves the logits by more than D."""
    backbone = BACKBONES["folded"](torch.float32).eval()
    bounds = verify(backbone, ["l2"], 3, (4,))
    scale = bounds.norms["l2"].error_scale
    assert scale > 1.0
    right = rounding_beforehand(bounds, (4,), torch.float32)["l2"].error
    bounds.norms["l2"] = dataclasses.replace(bounds.norms["l2"], error_scale=1.0)
    wrong = rounding_beforehand(bounds, (4,), torch.float32)["l2"].error
    assert wrong.slope * scale * (1 - 1e-9) <= right.slope


def test_a_bound_that_forgets_h_of_zero_is_found(monkeypatch):
    """The mutation: biases alone make values, and rounding, of their own."""
    original = Affine.plus

    def without(self, *others):
        return Affine(0.0, original(self, *others).slope)

    monkeypatch.setattr(Affine, "plus", without)
    with pytest.raises(AssertionError):
        check_not_below_the_running_bound(BACKBONES["dense"](torch.float32), torch.zeros(1, 4))


def test_affine_bounds_go_up_and_know_where_they_end():
    third = Affine(1 / 3, 0.1)
    assert Fraction(third.times(3.0).at_zero) >= 3 * Fraction(1 / 3)
    assert Fraction(third.plus(third).slope) >= 2 * Fraction(0.1)
    assert Affine(2.0, 1.0).largest_argument(2.0) == 0.0
    assert Affine(0.0, 0.0).largest_argument(2.0) == math.inf
    most = third.largest_argument(5.0)
    assert at(third, most) <= 5 <= at(third, most * 1.001)
