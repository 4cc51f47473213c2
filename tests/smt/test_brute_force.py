"""The solver's verdicts against exact evaluation on dense grids, and where the answer is known.

A grid point that breaks the property refutes CERTIFIED; FALSIFIED brings a witness, checked
by the formula. What remains unchecked are violations between grid points.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
from torch import nn

from relaxcert.nn.layers import MinMax
from relaxcert.smt.judge import judge
from relaxcert.smt.query import Region
from relaxcert.spec import Affinity, AffinitySets, Ball, Local, RelaxedTopK, Targeted, TopK
from relaxcert.spec.formula import holds_on
from relaxcert.spec.reference import holds
from relaxcert.spec.verdict import Answer
from tests.networks import every_kind
from tests.smt.networks import BENT, LINE, ORDERS_DIFFER, coarse, exact, fractions, grid

CERTIFIED, FALSIFIED = Answer.CERTIFIED, Answer.FALSIFIED


def answer(backbone, point, prop):
    network = exact(backbone, len(point))
    return judge(network, fractions(*point), prop).verdict.answer


@pytest.mark.parametrize("activation", [nn.ReLU, MinMax])
@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
@pytest.mark.parametrize("features", [1, 2])
def test_verdicts_agree_with_dense_grids(activation, norm, features):
    seen = set()
    for seed in range(2):
        network = exact(coarse(seed, features, 4, activation), features)
        point = fractions(*[(3 * seed + 5 * i) % 7 / 4 - 0.5 for i in range(features)])
        for prop in every_kind(4, Fraction(seed % 3 + 1, 4), norm):
            found = judge(network, point, prop)
            seen.add(found.verdict.answer)
            points = {}
            for ball in prop.balls:
                region = Region.around(point, ball)
                points[ball] = grid(region, 24 if features == 1 else 8)
            extra = {ball: list(points[ball]) for ball in points}
            for evidence in found.evidence:
                if evidence.ball is not None:
                    assert Region.around(point, evidence.ball).contains(evidence.witness)
                    extra[evidence.ball].append(evidence.witness)
            logits = {b: [network.logits(p) for p in extra[b]] for b in extra}
            brute = holds(prop, found.logits, logits.__getitem__)
            # The formula's reading of x' is the reference's or stricter (ties at x').
            formula = holds_on(prop.formula(found.ranking), logits.__getitem__)
            if found.verdict.answer is CERTIFIED:
                assert brute, (prop, point)
            if found.verdict.answer is FALSIFIED:
                assert not formula, (prop, point)
            assert found.verdict.answer is not Answer.UNKNOWN, found.verdict.reason
    assert {CERTIFIED, FALSIFIED} <= seen


@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
def test_one_k_for_all_and_a_k_for_each_differ(norm):
    at = {"eps": 1, "norm": norm}
    assert answer(ORDERS_DIFFER, [0], RelaxedTopK(2, **at)) is FALSIFIED
    assert answer(ORDERS_DIFFER, [0], RelaxedTopK(2, **at, quantifier="pointwise")) is CERTIFIED
    assert answer(LINE, [0], RelaxedTopK(2, **at)) is FALSIFIED
    assert answer(LINE, [0], RelaxedTopK(2, **at, quantifier="pointwise")) is CERTIFIED
    together, apart = AffinitySets([[0, 1], [2]], 3), AffinitySets([[0], [1, 2]], 3)
    assert answer(LINE, [0], Affinity(together, **at)) is FALSIFIED
    assert answer(LINE, [0], Affinity(together, **at, quantifier="pointwise")) is CERTIFIED
    assert answer(LINE, [0], Affinity(apart, **at, quantifier="pointwise")) is FALSIFIED


def test_the_bent_network_changes_its_answers_where_it_should():
    for eps, pointwise in [("1/2", CERTIFIED), ("3/4", CERTIFIED), (1, FALSIFIED)]:
        assert answer(BENT, [0], TopK(1, eps=eps)) is FALSIFIED
        assert answer(BENT, [0], TopK(2, eps=eps)) is FALSIFIED
        relaxed = RelaxedTopK(2, eps=eps, quantifier="pointwise")
        assert answer(BENT, [0], relaxed) is pointwise
        assert answer(BENT, [0], TopK(3, eps=eps)) is CERTIFIED


def test_the_exact_boundary_counts_as_a_violation():
    """LINE: f_1 reaches f_0 at x' = 1/2 exactly, and nowhere before."""
    just_below = Fraction(1, 2) - Fraction(1, 10**18)
    for norm in ("linf", "l1", "l2"):
        assert answer(LINE, [0], Local(eps="1/2", norm=norm)) is FALSIFIED
        assert answer(LINE, [0], Local(eps=just_below, norm=norm)) is CERTIFIED


def test_ties_and_no_admissible_length():
    tied = exact(LINE, 1)
    at_tie = judge(tied, fractions("1/2"), Local(eps="1/1000"))
    assert at_tie.verdict.answer is FALSIFIED
    assert at_tie.verdict.witness == fractions("1/2")
    assert judge(tied, fractions("1/2"), TopK(2, eps="1/1000")).verdict.answer is CERTIFIED
    # Class 0 lies in no set, so no prefix that begins with it may serve.
    sets = AffinitySets([[1, 2]], 3)
    for quantifier in ("uniform", "pointwise"):
        prop = Affinity(sets, eps="1/1000", quantifier=quantifier)
        with pytest.warns(UserWarning, match="no affinity set"):
            found = judge(tied, fractions(0), prop)
        assert found.verdict.answer is FALSIFIED
        assert found.verdict.witness == fractions(0)


def test_a_uniform_property_is_broken_by_a_witness_for_each_length():
    found = judge(exact(LINE, 1), fractions(0), RelaxedTopK(2, eps=1))
    ball = Ball.of(1)
    assert found.verdict.answer is FALSIFIED
    assert [evidence.ball for evidence in found.evidence] == [ball, ball]
    first, second = (evidence.witness[0] for evidence in found.evidence)
    assert first >= Fraction(1, 2)
    assert second <= Fraction(-1, 2)


def test_targeted_moves_between_allowed_classes_only():
    allowed = Targeted([[0, 1], [1, 0], [2]], eps=1)
    assert answer(LINE, [0], allowed) is CERTIFIED
    assert answer(LINE, [0], Targeted([[0, 2], [1], [2]], eps=1)) is FALSIFIED
