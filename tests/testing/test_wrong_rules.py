"""Subtly wrong rules: each fails its suite, by the check that is named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxcert.lipschitz import Bound, Rounding, Rule, registry
from relaxcert.lipschitz.rules import LinearRule
from relaxcert.testing import RuleConformance
from tests.testing.wrong import checks_of, example, failed

EXAMPLE = example("custom_layer")


class Steep(nn.Module):
    """|z| for z > 0, 3 |z| below: an absolute value with two slopes."""

    def forward(self, inputs):
        return torch.where(inputs > 0, inputs, -3.0 * inputs)


class SteepRule(EXAMPLE.AbsoluteRule):
    """Right: the larger slope, one product."""

    def verified(self, layer, norm):
        return Bound(3.0, "the larger slope")

    def estimate(self, layer, norm, iterate):
        return 3.0, None

    def rounding(self, layer, norm):
        return Rounding(operations=1, output_gain=1.0)


class OfTheWrongSide(SteepRule):
    """The slope of positive inputs only."""

    def verified(self, layer, norm):
        return Bound(1.0, "slope at 1")

    def estimate(self, layer, norm, iterate):
        return 1.0, None


class RoundsNothing(SteepRule):
    """3 z rounds."""

    def rounding(self, layer, norm):
        return Rounding()


class SteepSuite(RuleConformance):
    input_shape = (3,)

    def make_layer(self):
        return Steep()


class TenPercentLow(LinearRule):
    def verified(self, layer, norm):
        bound = super().verified(layer, norm)
        return Bound(0.9 * bound.value, bound.method)


class OneBitLow(LinearRule):
    """A float64 singular value: nothing is verified about its last bits."""

    def verified(self, layer, norm):
        bound = super().verified(layer, norm)
        if norm != "l2":
            return bound
        top = float(torch.linalg.matrix_norm(layer.weight.detach(), 2))
        return Bound(top * (1 - 2**-50), "singular value")


class RowsForColumns(LinearRule):
    """The l1 norm of a matrix is its largest column sum."""

    def verified(self, layer, norm):
        return super().verified(layer, {"l1": "linf", "linf": "l1"}.get(norm, norm))


class NoBiasInTheRounding(LinearRule):
    def rounding(self, layer, norm):
        found = super().rounding(layer, norm)
        return Rounding(found.operations, found.input_gain / 1e6)


class TooHigh(LinearRule):
    def estimate(self, layer, norm, iterate):
        value, following = super().estimate(layer, norm, iterate)
        return 1.1 * value, following


class NoGradient(LinearRule):
    """Half of the estimate is cut off from the weights."""

    def estimate(self, layer, norm, iterate):
        value, following = super().estimate(layer, norm, iterate)
        return 0.5 * value + 0.5 * value.detach(), following


class AcceptsNaN(LinearRule):
    def verified(self, layer, norm):
        if not bool(layer.weight.isfinite().all()):
            return Bound(float("inf"), "why not")
        return super().verified(layer, norm)

    def rounding(self, layer, norm):
        return Rounding(operations=layer.in_features + 1)


class NaNAtZero(LinearRule):
    def estimate(self, layer, norm, iterate):
        value, following = super().estimate(layer, norm, iterate)
        return value * (value / value), following


class LinearSuite(RuleConformance):
    input_shape = (4,)

    def make_layer(self):
        return nn.Linear(4, 3)


WRONG = [
    (OfTheWrongSide, Steep, SteepSuite, "test_no_two_points_move_apart_faster_than_the_bound"),
    (OfTheWrongSide, Steep, SteepSuite, "test_the_bound_is_at_least_every_singular_value"),
    (RoundsNothing, Steep, SteepSuite, "test_the_rounding_terms_cover_float32"),
    (TenPercentLow, nn.Linear, LinearSuite, "test_no_direction_is_stretched_more_than_the_bound"),
    (TenPercentLow, nn.Linear, LinearSuite, "test_the_bound_is_at_least_every_singular_value"),
    (OneBitLow, nn.Linear, LinearSuite, "test_the_bound_is_at_least_the_exact_value"),
    (RowsForColumns, nn.Linear, LinearSuite, "test_the_bound_is_at_least_every_singular_value"),
    (NoBiasInTheRounding, nn.Linear, LinearSuite, "test_the_rounding_terms_cover_float32"),
    (TooHigh, nn.Linear, LinearSuite, "test_the_estimate_never_exceeds_the_verified_bound"),
    (NoGradient, nn.Linear, LinearSuite, "test_the_gradient_of_the_estimate_is_right"),
    (AcceptsNaN, nn.Linear, LinearSuite, "test_weights_that_are_not_finite_have_no_bound"),
    (NaNAtZero, nn.Linear, LinearSuite, "test_zero_weights_give_finite_estimates_and_gradients"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "kind", "suite", "check"), WRONG, ids=[f"{w[0].__name__}-{w[3]}" for w in WRONG]
)
def test_a_subtly_wrong_rule_fails(monkeypatch, rule, kind, suite, check):
    right = {nn.Linear: LinearRule, Steep: SteepRule}[kind]
    monkeypatch.setattr(registry, "_RULES", {**registry._RULES, kind: right()})
    assert failed(suite, check) == "", "the right rule passes"
    registry._RULES[kind] = rule()
    assert failed(suite, check)


@pytest.mark.parametrize("check", checks_of(EXAMPLE.TestAbsolute))
def test_the_example_passes_its_suite(monkeypatch, check):
    assert failed(EXAMPLE.TestAbsolute, check) == ""


@pytest.fixture(autouse=True)
def the_example_is_registered(monkeypatch):
    registered = {**registry._RULES, EXAMPLE.Absolute: EXAMPLE.AbsoluteRule()}
    monkeypatch.setattr(registry, "_RULES", registered)


def test_the_rule_of_the_example_is_a_rule():
    assert issubclass(EXAMPLE.AbsoluteRule, Rule)
