from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings

from relaxcert.errors import InvalidProperty
from relaxcert.spec import Ball, Local, format_eps, parse_eps
from tests.strategies import eps_likes, norms


@pytest.mark.parametrize(
    ("given_as", "exact"),
    [
        ("0.03", Fraction(3, 100)),
        (" 36/255 ", Fraction(12, 85)),
        ("1e-3", Fraction(1, 1000)),
        ("2.5E+1", Fraction(25)),
        (0.1, Fraction(3602879701896397, 36028797018963968)),
        (1, Fraction(1)),
        (Decimal("0.03"), Fraction(3, 100)),
        (Fraction(1, 3), Fraction(1, 3)),
        (5e-324, Fraction(1, 2**1074)),
        (1.7e308, Fraction(1.7e308)),
    ],
)
def test_every_spelling_is_exact(given_as, exact):
    assert parse_eps(given_as) == exact
    assert parse_eps(format_eps(exact)) == exact


@pytest.mark.parametrize(
    "bad",
    [
        0,
        "0",
        "0/7",
        -0.1,
        "-1",
        "1/0",
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        True,
        None,
        [1],
        1j,
        "",
        "x",
        "1/2/3",
        "1_0",
        "+1",
        "0x10",
        "٣",
        "1e9999",
        "1e999",
        "9" * 5000,
        "1/" + "9" * 5000,
        Fraction(1, 10**700),
    ],
)
def test_what_is_no_radius_is_refused(bad):
    with pytest.raises(InvalidProperty, match="eps"):
        parse_eps(bad)
    with pytest.raises(InvalidProperty, match="eps"):
        Local(eps=bad)


def test_messages_show_value_and_remedy():
    with pytest.raises(InvalidProperty, match=r"eps='0'.*greater than 0.*'0\.03'"):
        parse_eps("0")
    with pytest.raises(InvalidProperty, match=r"norm='l3'.*'l2', 'linf', 'l1'"):
        Ball.of(1, "l3")


@given(eps_likes)
@settings(deadline=None)
def test_text_reads_back_to_the_same_number(eps):
    exact = parse_eps(eps)
    assert parse_eps(format_eps(exact)) == exact
    assert parse_eps(f"{exact.numerator}/{exact.denominator}") == exact


@given(eps_likes, norms)
@settings(deadline=None)
def test_arguments_are_source_code(eps, norm):
    ball = Ball.of(eps, norm)
    assert eval(f"Ball.of({ball.arguments()})") == ball
    assert str(ball).startswith(norm)


@pytest.mark.parametrize(
    ("eps", "text"), [("36/255", "12/85"), ("0.030", "0.03"), ("2", "2"), (0.5, "0.5")]
)
def test_shortest_text(eps, text):
    assert format_eps(parse_eps(eps)) == text
