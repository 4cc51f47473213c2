"""Rounding of the forward pass: computed against exact rational arithmetic, never sampled."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from relaxcert.heads.links import ProvedLinks
from relaxcert.lipschitz.forward import Forward, forward_with_error
from relaxcert.lipschitz.tracing import trace
from relaxcert.lipschitz.verified import VerifiedBounds, verify
from relaxcert.nn.layers import InputNormalisation, MinMax
from tests.lipschitz.exact import exact, exact_vector, forward, norm_within
from tests.networks import NORMS, linear, randn, random_backbone

DTYPES = (torch.float32, torch.float64)
DUAL = {"l2": "l2", "linf": "l1", "l1": "linf"}


def run(backbone: nn.Sequential, inputs: Tensor) -> tuple[Forward, VerifiedBounds]:
    """The live network in its own precision, with verified bounds."""
    backbone.eval()
    bounds = verify(backbone, NORMS, 3)
    with torch.no_grad():
        return forward_with_error(inputs, trace(backbone), bounds), bounds


def check(backbone: nn.Sequential, inputs: Tensor) -> None:
    """Every stated error covers the true one, for logits and for pair differences."""
    result, bounds = run(backbone, inputs)
    for place, row in enumerate(inputs.flatten(1)):
        if not bool(result.logits[place].isfinite().all()):
            continue  # overflow: nothing is stated, and nothing certified
        truth = forward(backbone, exact_vector(row))
        check_logits(result, bounds, place, truth)


def check_logits(result: Forward, bounds: VerifiedBounds, place: int, truth: list) -> None:
    computed = exact_vector(result.logits[place])
    errors = [a - b for a, b in zip(computed, truth, strict=True)]
    for norm, proved in bounds.norms.items():
        before = result.error[norm][place].item()
        if bounds.last is None:
            assert norm_within(errors, norm, before)
            continue
        if not math.isfinite(before):
            continue
        slack = exact_vector(result.slack[place])
        links = ProvedLinks(
            result.logits.double(), result.slack, result.error[norm], proved.pairs, 0.0
        ).centre_rows(torch.arange(len(truth)).expand(len(result.logits), -1))
        for j in range(len(truth)):
            for i in range(len(truth)):
                if i == j:
                    continue
                allowed = (
                    slack[j] + slack[i] + Fraction(before) * Fraction(proved.pairs[j, i].item())
                )
                assert abs(errors[j] - errors[i]) <= allowed
                assert Fraction(links[place, j, i].item()) <= truth[j] - truth[i]


def single_logit_within_slack(backbone: nn.Sequential, inputs: Tensor) -> None:
    """For one linear layer alone the slack itself is the whole error."""
    result, _ = run(backbone, inputs)
    for place, row in enumerate(inputs):
        truth = forward(backbone, exact_vector(row))
        for value, slack, wanted in zip(
            exact_vector(result.logits[place]),
            exact_vector(result.slack[place]),
            truth,
            strict=True,
        ):
            assert abs(value - wanted) <= slack


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [MinMax, nn.ReLU])
@pytest.mark.parametrize("normalise", [False, True])
def test_stated_error_covers_the_true_error_of_random_networks(dtype, activation, normalise):
    for seed in range(4):
        backbone = random_backbone(
            seed, 5, (8, 6), 3, activation=activation, normalise=normalise, dtype=dtype
        )
        check(backbone, randn(seed, 3, 5, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e18])
def test_stated_error_covers_tiny_and_huge_weights(dtype, scale):
    for seed in range(3):
        backbone = random_backbone(seed, 4, (6,), 3, dtype=dtype)
        with torch.no_grad():
            backbone[1].weight.mul_(scale)
            backbone[3].weight.mul_(1 / scale)
        check(backbone, randn(seed, 3, 4, dtype=dtype))
        check(backbone, 1e3 * randn(seed, 3, 4, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_stated_error_covers_underflow(dtype):
    """Products below the smallest number are lost altogether."""
    tiny = {torch.float32: 1e-25, torch.float64: 1e-170}[dtype]
    backbone = nn.Sequential(
        linear(tiny * randn(1, 4, 4), dtype=dtype), nn.ReLU(), linear(randn(2, 3, 4), dtype=dtype)
    )
    check(backbone, (tiny * randn(3, 4, 4)).to(dtype))
    single_logit_within_slack(
        nn.Sequential(linear(tiny * randn(4, 3, 4), dtype=dtype)), (tiny * randn(5, 4, 4)).to(dtype)
    )


@pytest.mark.parametrize("bias", [2.0**24, -(2.0**24), 2.0**24 + 2, 1e30])
def test_stated_error_covers_biases_that_absorb_differences_in_float32(bias):
    """Soundness case 8: at 2^24 float32 cannot see a difference of 1."""
    backbone = nn.Sequential(
        linear(randn(1, 4, 4), dtype=torch.float32),
        nn.ReLU(),
        linear(randn(2, 3, 4), [bias, bias, bias], torch.float32),
    )
    inputs = randn(3, 8, 4, dtype=torch.float32)
    check(backbone, inputs)
    result, _ = run(backbone, inputs)
    assert bool((result.slack >= 0.5).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_stated_error_covers_catastrophic_cancellation(dtype):
    weight = torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    inputs = torch.tensor([[2.0**26, 2.0**26 + 8, 1.25], [1e8, 1e8, 1e-8]]).to(dtype)
    single_logit_within_slack(nn.Sequential(linear(weight, [0.1, 0.2, 0.3], dtype)), inputs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_stated_error_covers_a_bias_that_is_added_once_for_each_of_many_places(dtype):
    """A linear layer acts on the last dimension: its bias enters (and rounds) once a place."""
    body = linear([[1.0], [1.0]], [1e6, 3e5], dtype)
    backbone = nn.Sequential(body, nn.Flatten())
    inputs = (randn(1, 1, 200, 1) / 3).to(dtype)
    bounds = verify(backbone, NORMS, 400)
    with torch.no_grad():
        result = forward_with_error(inputs, trace(backbone), bounds)
    weight, bias = exact(body.weight), exact_vector(body.bias)
    truth = [
        row[0] * x + b for x in exact_vector(inputs) for row, b in zip(weight, bias, strict=True)
    ]
    errors = [a - b for a, b in zip(exact_vector(result.logits), truth, strict=True)]
    assert any(errors)
    for norm in NORMS:
        assert norm_within(errors, norm, result.error[norm].item())


@pytest.mark.parametrize("dtype", DTYPES)
def test_stated_error_covers_a_network_that_does_not_end_in_a_linear_layer(dtype):
    for seed in range(3):
        backbone = nn.Sequential(*random_backbone(seed, 4, (6,), 4, dtype=dtype), nn.ReLU())
        check(backbone, randn(seed, 3, 4, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_normalisation_of_nearby_numbers_is_covered(dtype):
    backbone = nn.Sequential(
        InputNormalisation(torch.tensor([0.1, 1e6, 1e-30]), torch.tensor([1e-3, 3.0, 7e-8])),
        nn.Identity(),
    ).to(dtype)
    inputs = torch.tensor([[0.1, 1e6 + 1, 1e-30], [1 / 3, 1e-3, 1e-38]]).to(dtype)
    check(backbone, inputs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_stated_error_is_small_on_ordinary_networks(dtype):
    """Sound is easy with infinity; the allowance must also be of use."""
    backbone = random_backbone(3, 32, (32, 32), 3, dtype=dtype)
    result, bounds = run(backbone, randn(4, 5, 32, dtype=dtype))
    limit = {torch.float32: 1e-3, torch.float64: 1e-12}[dtype]
    total = result.slack.amax() + result.error["l2"].amax() * bounds.norms["l2"].pairs.amax()
    assert float(total) < limit


def test_layers_that_only_compare_and_copy_have_no_error():
    backbone = nn.Sequential(nn.Flatten(), nn.ReLU(), MinMax(), nn.Identity(), nn.Dropout(0.9))
    result, _ = run(backbone, randn(1, 4, 6, dtype=torch.float32))
    assert all(float(error.max()) == 0.0 for error in result.error.values())


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_nothing_is_known_behind_values_that_are_not_finite(bad):
    """ReLU makes 0 of minus infinity: the logits look well, and must not be believed."""
    backbone = nn.Sequential(nn.ReLU(), linear(torch.eye(3), dtype=torch.float32))
    result, _ = run(backbone, torch.tensor([[bad, 1.0, 2.0], [0.0, 1.0, 2.0]]))
    for error in result.error.values():
        assert not math.isfinite(error[0].item())
        assert error[1].item() == 0.0


def test_nothing_is_known_behind_a_float32_overflow():
    body = linear([[1.0, 1.0, 1.0, 1.0]], dtype=torch.float32)
    backbone = nn.Sequential(body, nn.ReLU(), linear([[-1.0], [1.0], [0.0]], dtype=torch.float32))
    result, _ = run(backbone, torch.tensor([[-3e38, -3e38, 3.3e38, 3.3e38]]))
    truth = forward(backbone, exact_vector(torch.tensor([-3e38, -3e38, 3.3e38, 3.3e38])))
    assert abs(truth[1]) > 10**37
    overflowed = not bool(body(torch.tensor([[-3e38, -3e38, 3.3e38, 3.3e38]])).isfinite().all())
    assert overflowed
    assert all(not math.isfinite(error.item()) for error in result.error.values())


numbers = st.one_of(
    st.floats(-8, 8, width=32),
    st.floats(-(2.0**60), 2.0**60, width=32),
    st.sampled_from([0.0, 2.0**24, -(2.0**24) - 2, 1e-40, 1e-45, 3e-20]),
)


@st.composite
def small_networks(draw):
    widths = [draw(st.integers(1, 3)), 2, 3]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        weight = draw(st.lists(numbers, min_size=before * after, max_size=before * after))
        bias = draw(st.lists(numbers, min_size=after, max_size=after))
        layers += [
            linear(torch.tensor(weight).reshape(after, before), bias, torch.float32),
            MinMax(),
        ]
    inputs = draw(st.lists(numbers, min_size=widths[0], max_size=widths[0]))
    return nn.Sequential(*layers[:-1]), torch.tensor([inputs])


@given(small_networks(), st.sampled_from(DTYPES))
@settings(max_examples=120)
def test_stated_error_covers_the_true_error_of_any_small_network(case, dtype):
    backbone, inputs = case
    check(backbone.to(dtype), inputs.to(dtype))
