"""Exact numbers as plain decimals, rounded outward where they must be rounded.

VNN-LIB knows no exponents and no fractions, and most tools read a decimal into the nearest float64.
A bound is therefore rounded outward twice: to float64, and then to a decimal. Both the decimal and
whatever float64 a tool makes of it then lie outside the exact interval.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from math import isfinite

from relaxcert.errors import InvalidInput
from relaxcert.lipschitz.directed import fraction_up

# Seventeen digits tell any two float64 apart.
_DIGITS = Context(prec=17, rounding=ROUND_FLOOR)


def decimal_down(value: Fraction) -> str:
    """A decimal of at most ``value``, whose nearest float64 is at most ``value`` too.

    Raises:
        InvalidInput: beyond the range of float64.
    """
    nearest = -fraction_up(-value)
    if not isfinite(nearest):
        raise InvalidInput(
            "a bound of the ball is beyond the range of float64: give smaller inputs or eps."
        )
    return _plain(_DIGITS.plus(Decimal(nearest)))


def decimal_up(value: Fraction) -> str:
    """A decimal of at least ``value``, whose nearest float64 is at least ``value`` too.

    Raises the errors of :func:`decimal_down`.
    """
    text = decimal_down(-value)
    if text == "0.0":
        return text
    return text[1:] if text.startswith("-") else f"-{text}"


def decimal_exactly(value: float) -> str:
    """The exact decimal of a float64: every one has a finite expansion."""
    return _plain(Decimal(value))


def _plain(value: Decimal) -> str:
    if value == 0:  # "-0.0" would be legal, but puzzling
        return "0.0"
    text = format(value, "f")
    return text if "." in text else f"{text}.0"
