"""Directed rounding against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relaxcert.errors import UnsupportedPrecision
from relaxcert.lipschitz.directed import (
    add_up,
    fraction_down,
    fraction_up,
    gamma,
    ldexp_up,
    multiply_up,
    norm_up,
    scaled_to_one,
    tensor_down,
    tensor_up,
    times_power_of_two,
    unit_of,
)
from tests.lipschitz.exact import exact_vector, norm_within

positive = st.floats(min_value=0.0, allow_nan=False, allow_infinity=False)
anything = st.floats(allow_nan=False, allow_infinity=False)
LARGEST = Fraction(1.7976931348623157e308)


def at_least(bound: float, value: Fraction) -> bool:
    return bound == math.inf or Fraction(bound) >= value


@given(st.integers(0, 2**51), st.sampled_from([2.0**-53, 2.0**-24]))
def test_gamma_is_at_least_k_u_over_1_minus_k_u(operations, unit):
    product = operations * Fraction(unit)
    if product >= Fraction(1, 2):
        assert gamma(operations, unit) == math.inf
    else:
        assert Fraction(gamma(operations, unit)) >= product / (1 - product)
        assert Fraction(gamma(operations, unit)) <= product / (1 - product) * Fraction(1.00001)


@given(st.lists(positive, max_size=6))
def test_add_up_is_at_least_the_sum(terms):
    assert at_least(add_up(*terms), sum(map(Fraction, terms), start=Fraction(0)))


@given(st.lists(positive, max_size=6))
def test_multiply_up_is_at_least_the_product(factors):
    exact = math.prod(map(Fraction, factors), start=Fraction(1))
    bound = multiply_up(*factors)
    assert at_least(bound, exact)
    assert (bound == 0.0) == (exact == 0)


def test_multiply_up_keeps_a_product_of_ones_exact():
    assert multiply_up(1.0, 1.0, 1.0) == 1.0
    assert multiply_up(1.0, 0.1, 1.0) == 0.1


fractions = st.builds(
    lambda value, other: Fraction(value) + Fraction(1, 3) * Fraction(other), positive, positive
)


@given(st.one_of(fractions, positive.map(Fraction), st.fractions(min_value=0)))
def test_fraction_up_and_down_enclose_as_tightly_as_floats_can(value):
    above, below = fraction_up(value), fraction_down(value)
    assert at_least(above, value)
    assert Fraction(below) <= value
    if math.isfinite(above):
        assert below == above or math.nextafter(below, math.inf) == above
        assert (below == above) == (Fraction(above) == value)


def test_fraction_up_beyond_float64_is_infinite_and_down_the_largest_float():
    assert fraction_up(LARGEST + 1) == math.inf
    assert Fraction(fraction_down(LARGEST + 1)) == LARGEST
    assert fraction_up(Fraction(1, 10**400)) == 5e-324
    assert fraction_down(Fraction(1, 10**400)) == 0.0


@given(positive, st.integers(-2200, 2200))
def test_ldexp_up_is_at_least_the_scaled_value_and_never_zero(value, exponent):
    exact = Fraction(value) * Fraction(2) ** exponent
    bound = ldexp_up(value, exponent)
    assert at_least(bound, exact)
    assert (bound == 0.0) == (value == 0.0)
    if math.isfinite(bound):
        assert (
            bound == 0 or Fraction(math.nextafter(bound, 0.0)) < exact or Fraction(bound) == exact
        )


@given(st.lists(anything, min_size=1, max_size=5), st.sampled_from([torch.float64, torch.float32]))
def test_tensor_up_and_down_move_by_one_number_of_the_dtype(values, dtype):
    tensor = torch.tensor(values, dtype=torch.float64).clamp(-1e38, 1e38).to(dtype)
    assert bool((tensor_up(tensor) > tensor).all())
    assert bool((tensor_down(tensor) < tensor).all())
    assert torch.equal(tensor_down(tensor_up(tensor)), tensor)


@given(st.lists(anything, min_size=1, max_size=6).filter(any))
def test_scaled_to_one_is_exact_but_for_underflow(values):
    matrix = torch.tensor([values], dtype=torch.float64)
    scaled, exponent = scaled_to_one(matrix)
    assert 0.5 <= float(scaled.abs().max()) < 1.0
    for small, large in zip(exact_vector(scaled), exact_vector(matrix), strict=True):
        assert abs(small - large * Fraction(2) ** -exponent) <= Fraction(2) ** -1074


@given(anything, st.integers(-1000, 1000))
def test_times_power_of_two_never_overflows_on_the_way(value, exponent):
    exact = Fraction(value) * Fraction(2) ** exponent
    if abs(exact) > LARGEST or (exact != 0 and abs(exact) < Fraction(2) ** -1000):
        return
    result = times_power_of_two(torch.tensor([value], dtype=torch.float64), exponent)
    assert Fraction(result.item()) == exact


@given(
    st.lists(anything, min_size=1, max_size=6),
    st.sampled_from([("l2", 2.0), ("linf", math.inf), ("l1", 1.0)]),
)
def test_norm_up_is_at_least_the_norm(values, order):
    name, number = order
    tensor = torch.tensor([values], dtype=torch.float64)
    assert norm_within(exact_vector(tensor), name, float(norm_up(tensor, number)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.complex64])
def test_types_without_rounding_analysis_are_refused(dtype):
    with pytest.raises(UnsupportedPrecision, match="rounding analysis"):
        unit_of(dtype)
