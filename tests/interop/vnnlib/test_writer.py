"""Every text is parsed by other people's parsers, and means the query on inputs and logits."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.errors import InvalidInput
from relaxcert.interop.vnnlib import Point, parse_vnnlib, vnnlib_text
from relaxcert.interop.vnnlib import writer as writers
from relaxcert.spec import Ball, Local, Ranking, RelaxedTopK, TopK
from relaxcert.spec.violation import Query, Reaches, leaves_of, queries_of
from tests.interop.vnnlib.evaluate import Parsed1, Parsed2
from tests.networks import every_kind
from tests.strategies import logits

RANKING = Ranking((2, 3, 0, 1))
POINT = Point((0.1, -0.75, 1e-3), (3,), 4)
norms = pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
versions = pytest.mark.parametrize("version", ["1.0", "2.0"])


def parsed(text: str, version: str):
    return Parsed1(text) if version == "1.0" else Parsed2(text)


def every_query(norm: str) -> list[Query]:
    found = [
        query
        for prop in every_kind(4, eps=Fraction(3, 100), norm=norm)
        for query in leaves_of(queries_of(prop, RANKING))
    ]
    return list(dict.fromkeys(found))


def logits_of_every_order() -> list[tuple[Fraction, ...]]:
    values = [Fraction(half, 2) for half in range(3)]
    return [(a, b, c, d) for a in values for b in values for c in values for d in values]


@versions
@norms
def test_the_violation_of_every_kind_means_the_query(norm, version):
    centre = tuple(map(Fraction, POINT.inputs))
    queries = every_query(norm)
    assert len(queries) >= 7
    for query in queries:
        text = vnnlib_text(query, POINT, version=version)
        file = parsed(text, version)
        every = logits_of_every_order()
        if version == "1.0":  # z3 is slow at arithmetic; our own reader does the rest
            read = parse_vnnlib(text)
            assert all(read.answered_by(centre, y) == query.answered_by(y) for y in every)
            every = every[::7]
        assert all(file.holds(centre, y) == query.answered_by(y) for y in every)


def offsets(norm: str) -> list[tuple[tuple[Fraction, ...], bool]]:
    """Offsets with the truth about the unit ball, on its surface and just beyond."""
    one, zero, little = Fraction(1), Fraction(0), Fraction(1, 10**9)
    surface = {
        "linf": [(one, -one, one), (zero, one, -one)],
        "l2": [(Fraction(3, 5), Fraction(-4, 5), zero), (zero, zero, -one)],
        "l1": [(Fraction(1, 2), Fraction(-1, 4), Fraction(1, 4)), (-one, zero, zero)],
    }[norm]
    found = [(offset, True) for offset in surface]
    found += [(tuple(o * (1 + little) for o in offset), False) for offset in surface]
    return found


@versions
@norms
def test_the_inputs_are_the_ball_or_the_box_around_it(norm, version):
    ball = Ball.of(Fraction(1, 3), norm)
    query = Query(ball, (1,), ((Reaches(1, 0),),))
    text = vnnlib_text(query, POINT, version=version)
    file = parsed(text, version)
    reached = (Fraction(0), Fraction(0), Fraction(0), Fraction(0))
    exact = norm == "linf" or (norm == "l2" and version == "2.0")
    assert ("box around" in text) is not exact
    for offset, inside in offsets(norm):
        moved = tuple(Fraction(x) + ball.eps * o for x, o in zip(POINT.inputs, offset, strict=True))
        within_box = max(map(abs, offset)) <= 1
        assert file.holds(moved, reached) == (inside if exact else within_box)


def test_bounds_rounded_inward_would_be_noticed(monkeypatch):
    monkeypatch.setattr(writers, "decimal_up", writers.decimal_down)
    with pytest.raises(AssertionError):
        test_the_inputs_are_the_ball_or_the_box_around_it("linf", "2.0")


def test_a_swapped_pair_would_be_noticed(monkeypatch):
    exact = writers._violation

    def swapped(query, name):
        turned = Query(
            query.ball,
            query.ks,
            tuple(tuple(Reaches(a.incumbent, a.challenger) for a in c) for c in query.violation),
        )
        return exact(turned, name)

    monkeypatch.setattr(writers, "_violation", swapped)
    with pytest.raises(AssertionError):
        test_the_violation_of_every_kind_means_the_query("linf", "2.0")


@given(logits(4), st.tuples(*[st.fractions(-1, 1, max_denominator=64)] * 3))
@settings(max_examples=30, deadline=None)
def test_both_versions_say_the_same(outputs, offset):
    ball = Ball.of("36/255", "linf")
    prop = RelaxedTopK(3, eps=ball.eps, norm="linf", quantifier="pointwise")
    (query,) = leaves_of(queries_of(prop, RANKING))
    moved = tuple(Fraction(x) + o for x, o in zip(POINT.inputs, offset, strict=True))
    first = parse_vnnlib(vnnlib_text(query, POINT, version="1.0"))
    second = Parsed2(vnnlib_text(query, POINT, version="2.0"))
    assert first.answered_by(moved, outputs) == second.holds(moved, outputs)


def test_images_are_indexed_row_major():
    point = Point(tuple(float(i) for i in range(12)), (1, 3, 4), 4)
    (query,) = leaves_of(queries_of(Local(eps="0.25", norm="linf"), RANKING))
    text = vnnlib_text(query, point, version="2.0")
    file = Parsed2(text)
    assert list(file.inputs.shape) == [1, 1, 3, 4]
    assert "(assert (>= X[0,0,1,2] 5.75))" in text
    assert "(assert (<= X_6 6.25))" in vnnlib_text(query, point, version="1.0")
    assert file.holds(tuple(map(Fraction, range(12))), (Fraction(0),) * 4)


def test_disjuncts_stand_inside_and_and_numbers_have_no_exponents():
    (query,) = leaves_of(queries_of(TopK(2, eps=Fraction(1, 10**12), norm="linf"), RANKING))
    for version in ("1.0", "2.0"):
        lines = vnnlib_text(query, POINT, version=version).splitlines()
        disjuncts = [line for line in lines if line.startswith("  (") and ">=" in line]
        assert len(disjuncts) == 4
        assert all(line.startswith("  (and (>= ") for line in disjuncts)
        numbers = [
            line.split()[-1] for line in lines if line.startswith("(assert (") and "." in line
        ]
        assert not any("e" in number.lower() for number in numbers)


def test_one_conjunction_needs_no_or():
    query = Query(Ball.of(1, "linf"), (), ((Reaches(1, 0), Reaches(1, 2)),))
    text = vnnlib_text(query, POINT)
    assert "(or" not in text
    assert text.endswith("(assert (>= Y_1 Y_0))\n(assert (>= Y_1 Y_2))\n")


def test_notes_cannot_leave_the_comment():
    query = Query(Ball.of(1, "linf"), (), ((Reaches(1, 0),),))
    text = vnnlib_text(query, POINT, notes=["a\n(assert (>= Y_0 1.0))", "b\r(assert", "c\u2028d"])
    body = [line for line in text.splitlines() if not line.startswith(";")]
    assert all("1.0)" not in line or "X_" in line for line in body)
    Parsed1(text)


def test_header_says_ball_and_meaning():
    (query,) = leaves_of(queries_of(Local(eps="36/255", norm="l1"), RANKING))
    text = vnnlib_text(query, POINT, notes=["property sha256 abc"])
    assert "; ball: l1, eps 12/85; bounds are rounded outward" in text
    assert "; property sha256 abc" in text
    assert "UNSAT carries over to the ball" in text


@pytest.mark.parametrize(
    ("inputs", "shape", "message"),
    [
        ((1.0, 2.0), (3,), "2 numbers, expected 3"),
        ((), (0,), "at least one"),
        ((math.nan,), (1,), "NaN or infinity"),
        ((math.inf,), (1,), "NaN or infinity"),
    ],
)
def test_points_that_do_not_fit_are_refused(inputs, shape, message):
    with pytest.raises(InvalidInput, match=message):
        Point(inputs, shape, 3)


def test_nothing_to_ask_and_unknown_versions_are_refused():
    with pytest.raises(InvalidInput, match="no conjunction"):
        vnnlib_text(Query(Ball.of(1), (), ()), POINT)
    query = Query(Ball.of(1), (), ((Reaches(1, 0),),))
    with pytest.raises(InvalidInput, match=r"version='3\.0' must be"):
        vnnlib_text(query, POINT, version="3.0")  # pyright: ignore[reportArgumentType]
