"""The ball of perturbations, with an exact radius."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal, get_args

from relaxcert.errors import InvalidProperty

Norm = Literal["l2", "linf", "l1"]
EpsLike = float | int | str | Fraction | Decimal
NORMS: tuple[Norm, ...] = get_args(Norm)

_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_RATIO = re.compile(r"([0-9]+)/([0-9]+)")
# Every float64 fits, and whatever these limits admit can be written by format_eps and read back.
_MAX_LENGTH = 4000
_MAX_TERM = 10**600


def parse_eps(eps: EpsLike) -> Fraction:
    """Return the exact radius that ``eps`` denotes.

    A float means the exact value of that float; ``"0.03"`` means 3/100; ``"36/255"`` that ratio.

    Raises:
        InvalidProperty: not a number, not finite, not greater than zero, or absurdly long.
    """
    value = _exact(eps)
    if value <= 0:
        raise InvalidProperty(
            f"eps={eps!r} must be greater than 0: a ball of radius 0 holds only the point "
            "itself, so the property would say nothing; give a radius such as '0.03' or '36/255'."
        )
    if value > sys.float_info.max or max(value.numerator, value.denominator) >= _MAX_TERM:
        raise InvalidProperty(
            "eps is beyond what can be computed with: give a radius of at most 1.7e308 whose exact "
            "ratio has at most 600 digits above and below, such as '0.03' or '36/255'."
        )
    return value


def _exact(eps: EpsLike) -> Fraction:
    if isinstance(eps, bool):
        raise InvalidProperty(f"eps={eps!r} must be a number, not a bool.")
    if isinstance(eps, str):
        return _from_text(eps)
    if isinstance(eps, Decimal | float) and not math.isfinite(eps):
        raise InvalidProperty(f"eps={eps!r} must be finite: give a radius such as 0.03.")
    try:
        return Fraction(eps)
    except (TypeError, ValueError) as error:
        raise InvalidProperty(
            f"eps={eps!r} must be a float, int, Fraction, Decimal or a text such as '0.03' "
            f"or '36/255', got {type(eps).__name__}."
        ) from error


def _from_text(text: str) -> Fraction:
    stripped = text.strip()
    ratio = _RATIO.fullmatch(stripped)
    if len(stripped) <= _MAX_LENGTH and ratio is not None and int(ratio[2]) != 0:
        return Fraction(int(ratio[1]), int(ratio[2]))
    if len(stripped) <= _MAX_LENGTH and _DECIMAL.fullmatch(stripped):
        return Fraction(stripped)
    raise InvalidProperty(
        f"eps={text[:80]!r} is not a number: write a positive decimal such as '0.03' or a ratio "
        "such as '36/255'."
    )


def format_eps(eps: Fraction) -> str:
    """Return the shortest exact text of a radius: a decimal where one exists, else a ratio.

    Always read back by :func:`parse_eps` to the same value.
    """
    denominator = eps.denominator
    twos = (denominator & -denominator).bit_length() - 1
    denominator >>= twos
    fives = 0
    while denominator % 5 == 0:
        denominator //= 5
        fives += 1
    if denominator != 1:
        return f"{eps.numerator}/{eps.denominator}"
    places = max(twos, fives)
    digits = str(eps.numerator * 10**places // eps.denominator).rjust(places + 1, "0")
    return digits if places == 0 else f"{digits[:-places]}.{digits[-places:]}"


@dataclass(frozen=True, slots=True)
class Ball:
    """All x' with ``||x' - x|| <= eps``; ``eps`` is exact, ``norm`` is of the input space.

    Inputs are whatever the network's first layer receives: if that layer normalises, ``eps`` is in
    units before normalisation.
    """

    eps: Fraction
    norm: Norm = "l2"

    @classmethod
    def of(cls, eps: EpsLike, norm: Norm = "l2") -> Ball:
        """Build a ball from any spelling of its radius, checking both arguments."""
        if norm not in NORMS:
            raise InvalidProperty(f"norm={norm!r} must be one of {', '.join(map(repr, NORMS))}.")
        return cls(parse_eps(eps), norm)

    def arguments(self) -> str:
        """Return the ``eps=..., norm=...`` part of a property's ``repr``."""
        as_float = _float_or_none(self.eps)
        eps = repr(as_float) if as_float is not None else repr(format_eps(self.eps))
        return f"eps={eps}" + (f", norm={self.norm!r}" if self.norm != "l2" else "")

    def __str__(self) -> str:
        return f"{self.norm} <= {float(self.eps):g}"


def _float_or_none(eps: Fraction) -> float | None:
    try:
        as_float = float(eps)
    except OverflowError:
        return None
    return as_float if Fraction(as_float) == eps else None
