"""Rounding terms of all layers: float32 runs against the same layer in float64.

float64's own error is 2^29 times smaller than what is stated for float32, and left out.
"""

from __future__ import annotations

import copy
import math
import random

import mpmath
import pytest
import torch
from torch import nn

from relaxcert.lipschitz import rules_activation, rules_convolution
from relaxcert.lipschitz.arithmetic import conventional_products
from relaxcert.lipschitz.forward import forward_with_error
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.lipschitz.registry import Rounding
from relaxcert.lipschitz.tracing import trace
from relaxcert.lipschitz.verified import verify
from relaxcert.nn.householder import Householder
from tests.lipschitz.layer_zoo import KINDS, random_case
from tests.networks import NORMS, randn


def shares(name: str, count: int, seed: int) -> list[float]:
    """True error / stated error of float32 runs of random layers of one kind, the largest each."""
    rng, found = random.Random(f"{name} {seed}"), []
    for index in range(count):
        layer, shape = random_case(name, rng)
        backbone = nn.Sequential(layer, nn.Flatten())
        single = copy.deepcopy(backbone).float()
        scale = rng.choice([1e-6, 1.0, 30.0, 1e6])
        inputs = (scale * randn(index, 3, *shape)).float()
        bounds = verify(single, NORMS, 2, shape)
        with torch.no_grad():
            result = forward_with_error(inputs, trace(single), bounds)
            error = (result.logits.double() - backbone(inputs.double())).flatten(1)
        for norm in NORMS:
            true, stated = error.norm(ORDER[norm], dim=1), result.error[norm]
            assert bool((true <= stated).all()), (layer, shape, norm, true, stated)
            found.append(float((true / stated.clamp(min=1e-300)).max()))
    return found


@pytest.mark.parametrize("name", list(KINDS))
def test_stated_errors_cover_float32(name):
    shares(name, 8, 0)


@pytest.mark.parametrize("name", ["linear", "convolution", "batch norm", "average pool"])
def test_stated_errors_are_not_far_from_true_ones(name):
    """Sound is easy with infinity."""
    assert max(shares(name, 8, 1)) > 0.005


def test_a_forgotten_bias_is_found(monkeypatch):
    """A bias that is added at each of 64 places rounds at each of them."""
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        layer.weight.fill_(1e-3)
        layer.bias.fill_(1e4)
    backbone, inputs = nn.Sequential(layer), torch.rand(1, 1, 64, 64)

    def covered() -> bool:
        bounds = verify(backbone, ["l2"], 2, (1, 64, 64))
        with torch.no_grad():
            result = forward_with_error(inputs, trace(backbone), bounds)
            error = result.logits.double() - copy.deepcopy(backbone).double()(inputs.double())
        return float(error.norm()) <= float(result.error["l2"])

    assert covered()
    monkeypatch.setattr(rules_convolution, "repeated_norm_up", lambda value, places, norm: 0.0)
    assert not covered()


def slope(function, x):
    return mpmath.diff(function, x)


FUNCTIONS = {
    "gelu": (
        rules_activation.GELU_CONSTANT,
        lambda x: x * mpmath.ncdf(x),
        mpmath.sqrt(2),
    ),
    "gelu tanh": (
        rules_activation.GELU_TANH_CONSTANT,
        lambda x: (
            x
            * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)))
            / 2
        ),
        1.4185,
    ),
    "silu": (rules_activation.SILU_CONSTANT, lambda x: x / (1 + mpmath.exp(-x)), 2.3994),
}


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_constants_are_the_largest_slopes_rounded_up(name):
    constant, function, start = FUNCTIONS[name]
    with mpmath.workdps(40):
        top = mpmath.findroot(lambda x: mpmath.diff(function, x, 2), start)
        largest = slope(function, top)
        assert largest <= mpmath.mpf(constant) <= largest * (1 + mpmath.mpf(2) ** -51)
        # Nowhere larger: it is monotone beyond, and a grid covers the rest.
        for step in range(-400, 401):
            assert abs(slope(function, mpmath.mpf(step) / 40)) <= largest


SMOOTH = {
    "tanh": (nn.Tanh(), mpmath.tanh),
    "sigmoid": (nn.Sigmoid(), lambda x: 1 / (1 + mpmath.exp(-x))),
    "silu": (nn.SiLU(), lambda x: x / (1 + mpmath.exp(-x))),
    "gelu": (nn.GELU(), lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2),
    "gelu tanh": (nn.GELU("tanh"), FUNCTIONS["gelu tanh"][1]),
    "softsign": (nn.Softsign(), lambda x: x / (1 + abs(x))),
    "elu": (nn.ELU(1.7), lambda x: x if x > 0 else mpmath.mpf(1.7) * mpmath.expm1(x)),
    "softplus": (nn.Softplus(), lambda x: mpmath.log1p(mpmath.exp(x))),
    "softplus 3": (nn.Softplus(3, 15), lambda x: mpmath.log1p(mpmath.exp(3 * x)) / 3),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", list(SMOOTH))
def test_library_functions_are_as_accurate_as_is_assumed(name, dtype):
    """The assumption of 16 ulps, number by number, over all sizes; vector and scalar code."""
    layer, function = SMOOTH[name]
    generator = torch.Generator().manual_seed(1)
    sizes = 10.0 ** (torch.rand(300, generator=generator, dtype=torch.float64) * 10 - 8)
    points = torch.cat([sizes, -sizes, torch.linspace(-100, 100, 201).double()]).to(dtype)
    backbone = nn.Sequential(layer)
    bounds = verify(nn.Sequential(layer, nn.Linear(1, 1)), ["linf"], 2)
    known: Rounding = bounds.norms["linf"].body[1].rounding
    unit = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}[dtype]
    values = torch.cat([backbone(points[:7]), backbone(points[7:])]).double()
    with mpmath.workdps(60):
        for x, y in zip(points.double().tolist(), values.tolist(), strict=True):
            error = abs(mpmath.mpf(y) - function(mpmath.mpf(x)))
            allowed = (
                known.operations * unit * (known.input_gain * abs(x) + known.output_gain * abs(y))
            )
            assert error <= allowed + known.absolute, (x, y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_householder_reflects_within_its_rounding(dtype):
    layer = Householder(2).to(dtype)
    bounds = verify(nn.Sequential(layer), NORMS, 2)
    rounding = bounds.norms["l2"].body[1].rounding
    unit = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}[dtype]
    for index, angle in enumerate((0.3, 1.5707963, 3.0, 1e-9, 200.0)):
        with torch.no_grad():
            layer.angles.fill_(angle)
            points = randn(index, 40, 2).to(dtype)
            # On the boundary itself, where rounding decides the side.
            half = layer.angles.double() / 2
            points[:10] = (torch.cat([half.cos(), half.sin()]) * randn(9, 10, 1)).to(dtype)
            values = layer(points)
        with mpmath.workdps(50):
            t = mpmath.mpf(float(layer.angles[0].detach()))
            for (a, b), (c, d) in zip(points.tolist(), values.tolist(), strict=True):
                if mpmath.sin(t / 2) * a - mpmath.cos(t / 2) * b > 0:
                    wanted = (mpmath.mpf(a), mpmath.mpf(b))
                else:
                    cos, sin = mpmath.cos(t), mpmath.sin(t)
                    wanted = (cos * a + sin * b, sin * a - cos * b)
                error = mpmath.hypot(c - wanted[0], d - wanted[1])
                allowed = rounding.operations * unit * rounding.input_gain * math.hypot(a, b)
                assert error <= allowed


def test_convolutions_are_computed_conventionally_during_certification():
    seen = []

    class Watching(nn.Linear):
        def forward(self, inputs):
            seen.append((torch._C._get_mkldnn_enabled(), torch._C._get_nnpack_enabled()))
            return super().forward(inputs)

    before = torch._C._get_mkldnn_enabled(), torch._C._get_nnpack_enabled()
    with conventional_products(torch.device("cpu")), torch.no_grad():
        Watching(2, 2)(torch.zeros(1, 2))
    assert seen == [(False, False)]
    assert (torch._C._get_mkldnn_enabled(), torch._C._get_nnpack_enabled()) == before


@pytest.mark.parametrize("alpha", [0.5, -3.0, 2.0**100])
def test_what_expm1_may_lose_is_multiplied_by_alpha(alpha):
    """The assumption: numbers below 2^-125 may come out as 0, before alpha multiplies them."""
    stated = rules_activation.ELURule().rounding(nn.ELU(alpha), "linf")
    assert stated.absolute >= 2.0**-125 * abs(alpha)
