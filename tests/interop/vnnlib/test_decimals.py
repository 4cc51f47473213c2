"""Decimals lie outside of what they bound, as written and as a tool reads them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxcert.errors import InvalidInput
from relaxcert.interop.vnnlib.decimals import decimal_down, decimal_exactly, decimal_up

numbers = st.one_of(
    st.fractions(max_denominator=10**30),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300).map(
        Fraction
    ),
    st.builds(
        lambda a, b: Fraction(a) - b, st.floats(-10, 10), st.fractions(0, 1, max_denominator=255)
    ),
)
TINY = Fraction(2) ** -1074


@given(numbers)
def test_bounds_lie_outside_as_text_and_as_float64(value):
    for text, sign in ((decimal_down(value), 1), (decimal_up(value), -1)):
        assert "e" not in text.lower()
        assert "." in text
        gaps = [sign * (value - Fraction(text)), sign * (value - Fraction(float(text)))]
        assert all(0 <= gap <= abs(value) * Fraction(2) ** -50 + 2 * TINY for gap in gaps)


def test_rounding_to_the_nearest_decimal_would_be_noticed():
    """1/3 and 2/3 between them go inward on either side when rounded to the nearest."""
    inward = [
        (value, sign)
        for value in (Fraction(1, 3), Fraction(2, 3), Fraction(1, 10), Fraction(7, 10))
        for sign in (1, -1)
        if sign * (value - Fraction(f"{float(value):.17g}")) < 0
    ]
    assert inward


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.0"), (1, "1.0"), (Fraction(-1, 2), "-0.5"), (1500, "1500.0"), (10**20, "1" + "0" * 20)],
)
def test_short_numbers_stay_short(value, text):
    expected = text if "." in text else text + ".0"
    assert decimal_down(Fraction(value)) == decimal_up(Fraction(value)) == expected


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_has_an_exact_decimal(value):
    text = decimal_exactly(value)
    assert Fraction(text) == Fraction(value)
    assert "e" not in text.lower()


@pytest.mark.parametrize("value", [Fraction(10) ** 400, -(Fraction(10) ** 400)])
def test_beyond_float64_is_refused(value):
    with pytest.raises(InvalidInput, match="beyond the range of float64"):
        decimal_down(value)
    with pytest.raises(InvalidInput, match="beyond the range of float64"):
        decimal_up(value)
