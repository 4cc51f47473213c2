"""Reading VNN-LIB 1.0: what is read means what it says, and mistakes are refused with a place."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.errors import DocumentError
from relaxcert.interop.vnnlib import parse_vnnlib, read_vnnlib
from relaxcert.interop.vnnlib import reader as readers
from tests.interop.vnnlib.acasxu import COC_1500, PROPERTIES
from tests.interop.vnnlib.evaluate import Parsed1

DECLARED = """\
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
"""
BOX = "(assert (>= X_0 -1.0)) (assert (<= X_0 1)) (assert (and (>= X_1 0) (<= X_1 5.)))\n"


def scores() -> list[tuple[Fraction, ...]]:
    few = [Fraction(0), Fraction(1), COC_1500]
    return list(product(few, repeat=5))


@pytest.mark.parametrize("number", PROPERTIES)
def test_the_acas_xu_properties(number):
    known = PROPERTIES[number]
    query = parse_vnnlib(known.text())
    assert (query.num_inputs, query.num_outputs) == (5, 5)
    assert len(query.cases) == len(known.boxes)
    for which, case in enumerate(query.cases):
        box = [(Fraction(low), Fraction(high)) for low, high in known.box(which)]
        assert [(side.low, side.high) for side in case.box] == box
        centre = tuple((low + high) / 2 for low, high in box)
        outside = (box[0][1] + Fraction(1, 10**9), *centre[1:])
        for y in scores():
            assert query.answered_by(centre, y) == known.violated(y)
            assert not query.answered_by(outside, y)
    judge = Parsed1(known.text())
    assert all(judge.holds(centre, y) == known.violated(y) for y in scores()[::29])


def test_a_dropped_assertion_would_be_noticed():
    known = PROPERTIES[3]
    lines = known.text().splitlines()
    shorter = "\n".join(line for line in lines if "Y_0 Y_3" not in line)
    query = parse_vnnlib(shorter)
    centre = tuple((side.low + side.high) / 2 for side in query.cases[0].box)
    assert any(query.answered_by(centre, y) != known.violated(y) for y in scores())


atoms = st.sampled_from(
    [
        "(<= Y_0 Y_1)",
        "(>= Y_0 (+ Y_1 0.5))",
        "(<= (- (* 2 Y_0) Y_1) 1.0)",
        "(>= (/ Y_1 4) (- 0.25))",
        "(<= 0.0 (- Y_0 Y_1 -1))",
        "(>= X_0 -0.5)",
        "(<= (* 2.0 X_1) 1.0)",
        "(<= 0.25 X_1)",
        "(>= 1.5 1)",
        "(<= 1.5 1)",
    ]
)
formulas = st.recursive(
    atoms,
    lambda inner: st.builds(
        lambda kind, parts: f"({kind} {' '.join(parts)})",
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)
values = st.sampled_from([Fraction(n, 4) for n in range(-5, 6)])


@given(
    st.lists(formulas, min_size=1, max_size=3),
    st.lists(st.tuples(values, values, values, values), min_size=4, max_size=8),
)
@settings(deadline=None, max_examples=60)
def test_nested_formulas_mean_what_z3_says(found, points):
    text = DECLARED + BOX + "\n".join(f"(assert {formula})" for formula in found)
    query, judge = parse_vnnlib(text), Parsed1(text)
    for x0, x1, y0, y1 in points:
        expected = judge.holds((x0, x1), (y0, y1))
        assert query.answered_by((x0, x1), (y0, y1)) == expected


def test_alternatives_with_boxes_of_their_own_stay_apart():
    text = (
        DECLARED + BOX + "(assert (or (and (<= X_0 0) (<= Y_0 Y_1)) (and (>= X_0 0) (<= Y_1 0))))"
    )
    query = parse_vnnlib(text)
    assert [(case.box[0].low, case.box[0].high) for case in query.cases] == [(-1, 0), (0, 1)]


def test_an_empty_box_has_no_answer():
    assert parse_vnnlib(DECLARED + BOX + "(assert (>= X_0 2.0))").cases == ()


def test_declare_fun_and_comments_and_odd_blanks():
    text = "; a comment\n(declare-fun X_0 () Real) ;x\n\t(declare-fun Y_0 () Real)\r\n" + (
        "(assert(and(<= X_0 1.0)(>= X_0 0)))(assert (>= Y_0 (/ 1 3)))"
    )
    query = parse_vnnlib(text)
    assert query.answered_by((Fraction(1),), (Fraction(1, 3),))
    assert not query.answered_by((Fraction(1),), (Fraction(33, 100),))


BAD = [
    ("(assert (<= Y_0 Y_1)", "5:1: this bracket is never closed"),
    ("(assert (<= Y_0 Y_1)))", "5:22: a closing bracket without"),
    ("assert", "5:1: 'assert' stands outside"),
    ("(assert (<= Y_0 Y_7))", "5:17: Y_7 is not declared"),
    ("(assert (<= Y_0 y_1))", "5:17: 'y_1' is neither"),
    ("(assert (<= Y_0 1e9999))", "5:17: '1e9999' is neither"),
    ("(assert (<= Y_0 nan))", "5:17: 'nan' is neither"),
    ("(assert (<= Y_0))", "5:9: (<= ...) takes exactly two"),
    ("(assert (<= Y_0 Y_1 Y_0))", "5:9: (<= ...) takes exactly two"),
    ("(assert (< Y_0 Y_1))", "5:9: '<' is not understood"),
    ("(assert (not (<= Y_0 Y_1)))", "5:9: 'not' is not understood"),
    ("(assert (=> (<= Y_0 1) (<= Y_1 1)))", "5:9: '=>' is not understood"),
    ("(assert (and))", "5:9: (and) needs at least one"),
    ("(assert Y_0)", "5:9: expected a formula in brackets"),
    ("(assert)", "5:1: (assert ...) takes exactly one"),
    ("(assert (<= Y_0 1) (<= Y_1 1))", "5:1: (assert ...) takes exactly one"),
    ("(assert (<= (* Y_0 Y_1) 1))", "5:13: a product of variables"),
    ("(assert (<= (/ 1 Y_0) 1))", "5:13: division only by a number"),
    ("(assert (<= (/ Y_0 0) 1))", "5:13: division only by a number"),
    ("(assert (<= (max Y_0 Y_1) 1))", "5:13: 'max' is not understood"),
    ("(assert (<= (+) 1))", "5:13: expected an expression"),
    ("(assert (<= () 1))", "5:13: expected an expression"),
    ("(assert ())", "5:9: a bracket must begin with a keyword"),
    ("(check-sat)", "5:1: 'check-sat' is not VNN-LIB 1.0"),
    ("(vnnlib-version <2.0>)", "5:1: 'vnnlib-version' is not VNN-LIB 1.0 (this is a VNN-LIB 2.0"),
    ("(declare-const Y_0 Real)", "5:16: Y_0 is declared twice"),
    ("(declare-const Z_0 Real)", "5:16: 'Z_0' must be an input"),
    ("(declare-const Y_2 Int)", "5:1: expected (declare-const X_0 Real)"),
    ("(declare-fun Y_2 Real)", "5:1: expected (declare-fun X_0 () Real)"),
    ("(declare-const Y_9999999 Real)", "5:16: 'Y_9999999' must be an input"),
    ("(declare-const Y_01 Real)", "5:16: 'Y_01' must be an input"),
    ("(declare-const Y_3 Real)", "Y_2 is not declared, but later ones are"),
    ('(assert (<= Y_0 "1"))', "5:17: unexpected character"),
    ("\n\n   (assert (frob Y_0 1))", "7:12: 'frob' is not understood"),
    ("(assert (<= (+ X_0 X_1) 1))", "5:9: an inequality over inputs must bound one X_i"),
    ("(assert (<= X_0 Y_0))", "5:9: an inequality over inputs must bound one X_i"),
    ("(assert (<= Y_0 1))", "X_0 has no lower bound"),
    ("(assert (>= X_0 0)) (assert (<= X_0 1)) (assert (>= X_1 0))", "X_1 has no upper bound"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_mistakes_are_refused_with_line_and_column(line, message):
    with pytest.raises(DocumentError) as caught:
        parse_vnnlib(DECLARED + line, origin="mine.vnnlib")
    assert f"mine.vnnlib:{message}" in str(caught.value) or (
        message[0] in "XY" and f"mine.vnnlib: {message}" in str(caught.value)
    )


def test_exponents_are_read_though_never_written():
    query = parse_vnnlib(DECLARED + BOX + "(assert (<= Y_0 -2.5E-3))")
    assert query.cases[0].outputs[0][0].constant == Fraction(-1, 400)


def test_nothing_declared():
    with pytest.raises(DocumentError, match="no X_0 is declared"):
        parse_vnnlib("; nothing")


def test_deep_nesting_is_refused():
    with pytest.raises(DocumentError, match=r":5:\d+: nested more than 32 deep"):
        parse_vnnlib(DECLARED + "(assert " + "(and " * 100_000)


def test_products_without_end_are_refused():
    either = "(assert (or (<= Y_0 1) (<= Y_1 1)))\n"
    assert len(parse_vnnlib(DECLARED + BOX + either * 3).cases[0].outputs) == 8
    with pytest.raises(DocumentError, match=r":21:1: multiplied out, the assertions have more"):
        parse_vnnlib(DECLARED + either * 40)
    inner = "(or (<= Y_0 1) (<= Y_1 1)) " * 40
    with pytest.raises(DocumentError, match="multiplied out"):
        parse_vnnlib(DECLARED + f"(assert (and {inner}))")


def test_huge_numbers_are_refused():
    power = "(* " + "1e999 " * 1000 + ")"
    with pytest.raises(DocumentError, match="more than 20000 bits"):
        parse_vnnlib(DECLARED + BOX + f"(assert (<= Y_0 {power}))")


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(DocumentError, match="no such file"):
        read_vnnlib(tmp_path / "none.vnnlib")
    with pytest.raises(DocumentError, match="cannot be read"):
        read_vnnlib(tmp_path)
    compressed = tmp_path / "prop.vnnlib.gz"
    compressed.write_bytes(b"\x1f\x8b\x08\x00rest")
    with pytest.raises(DocumentError, match="compressed, unpack it first"):
        read_vnnlib(compressed)
    good = tmp_path / "good.vnnlib"
    good.write_text(PROPERTIES[1].text())
    assert read_vnnlib(good) == parse_vnnlib(PROPERTIES[1].text())
    monkeypatch.setattr(readers, "MOST_LITERALS", 8)
    with pytest.raises(DocumentError, match="beyond the limit of 8"):
        read_vnnlib(good)
