import copy
import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given, settings

from relaxcert.errors import InvalidInput, InvalidProperty, UncoveredClassWarning, VacuousProperty
from relaxcert.spec import (
    Affinity,
    AffinitySets,
    Conjunction,
    Disjunction,
    Local,
    Ranking,
    RelaxedTopK,
    Targeted,
    TopK,
)
from tests.strategies import class_counts, properties

PAIRS = AffinitySets([[0, 1], [2]], 3)
SAFE = [[0, 1], [1, 0], [2]]


@given(class_counts.flatmap(lambda n: properties(n, covered=False)))
@settings(deadline=None)
def test_repr_evaluates_back_to_an_equal_property(prop):
    twin = eval(repr(prop))
    assert twin == prop
    assert hash(twin) == hash(prop)
    assert copy.deepcopy(prop) == prop
    assert hash(copy.copy(prop)) == hash(prop)


@pytest.mark.parametrize(
    "build",
    [
        lambda eps: Local(eps=eps),
        lambda eps: TopK(2, eps=eps),
        lambda eps: RelaxedTopK(2, eps=eps, quantifier="pointwise"),
        lambda eps: Affinity(PAIRS, eps=eps),
        lambda eps: Targeted(SAFE, eps=eps),
        lambda eps: Local(eps=eps) & TopK(2, eps=1),
        lambda eps: Local(eps=eps) | TopK(2, eps=1),
    ],
)
def test_values(build):
    assert build("0.5") == build(0.5) == build("1/2")
    assert hash(build("0.5")) == hash(build(Fraction(1, 2)))
    assert build("0.5") != build("0.25")
    prop = build("0.5")
    for field in dataclasses.fields(prop):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(prop, field.name, None)


def test_kinds_differ():
    kinds = [
        Local(eps=1),
        TopK(1, eps=1),
        RelaxedTopK(1, eps=1),
        RelaxedTopK(1, eps=1, quantifier="pointwise"),
        Affinity(PAIRS, eps=1),
        Targeted(SAFE, eps=1),
        Local(eps=1, norm="linf"),
        Local(eps=1) & TopK(2, eps=1),
        Local(eps=1) | TopK(2, eps=1),
    ]
    assert len(set(kinds)) == len(kinds)


def test_compositions_ignore_order_nesting_and_repetition():
    a, b, c = Local(eps=1), TopK(2, eps=1), TopK(2, eps=2)
    assert a & b == b & a
    assert hash(a | b) == hash(b | a)
    assert (a & b) & c == a & (b & c) == Conjunction(c, b, a)
    assert (a | b) | c == Disjunction(a, b, c)
    assert a & a == a
    assert a & b & a == a & b
    assert (a & b) | c != (a | c) & b
    assert (a & b).parts == (a, b)
    assert (a & (b | c)).balls == (a.ball, b.ball, c.ball)
    assert a.parts == (a,)


def test_no_negation_and_no_truth_value():
    prop = Local(eps=1)
    with pytest.raises(TypeError, match="negation"):
        _ = ~prop
    for use in (lambda: bool(prop), lambda: prop and prop, lambda: not prop, lambda: prop or prop):
        with pytest.raises(TypeError, match="use '&' and"):
            use()
    for use in (lambda: prop & True, lambda: prop | 1, lambda: prop & None):
        with pytest.raises(TypeError, match="both sides"):
            use()


@pytest.mark.parametrize(
    ("build", "fragment"),
    [
        (lambda: TopK(0, eps=1), "k=0"),
        (lambda: TopK(True, eps=1), "k=True"),
        (lambda: RelaxedTopK(1.0, eps=1), r"k=1\.0"),
        (lambda: RelaxedTopK(2, eps=1, quantifier="some"), "quantifier='some'"),
        (lambda: Affinity([[0], [1]], eps=1), "must be AffinitySets"),
        (lambda: Local(eps=1, norm="L2"), "norm='L2'"),
        (lambda: Targeted([[0]], eps=1), "1 entries"),
        (lambda: Targeted([[0], [0]], eps=1), r"allowed\[1\]=\[0\] must hold 1"),
        (lambda: Targeted([[0], [1, 5]], eps=1), "out of range"),
        (lambda: Targeted.neighbours([0, 1, 1], eps=1), "exactly once"),
        (lambda: Targeted.neighbours([0, 1, 2], eps=1, degrees=0), "degrees=0"),
        (lambda: Targeted.neighbours([0, 1, 2], eps=1, degrees=True), "degrees=True"),
        (Conjunction, "at least one"),
    ],
)
def test_mistakes_are_named(build, fragment):
    with pytest.raises(InvalidProperty, match=fragment):
        build()


@pytest.mark.parametrize(
    "vacuous",
    [
        lambda: Local(eps=1).check(1),
        lambda: TopK(3, eps=1).check(3),
        lambda: RelaxedTopK(7, eps=1).check(3),
        lambda: (Local(eps=1) & TopK(3, eps=1)).check(3),
        lambda: (Local(eps=1) | (Local(eps=2) & RelaxedTopK(3, eps=1))).check(3),
        lambda: Targeted([[0, 1], [0, 1]], eps=1),
        lambda: Targeted.neighbours([0, 1, 2], eps=1),
    ],
)
def test_what_always_holds_is_refused(vacuous):
    with pytest.raises(VacuousProperty):
        vacuous()


def test_check_passes_and_compares_numbers_of_classes():
    for prop in (Local(eps=1), TopK(2, eps=1), RelaxedTopK(2, eps=1), Affinity(PAIRS, eps=1)):
        prop.check(3)
    with pytest.raises(InvalidProperty, match="written for 3 classes, but the network has 4"):
        Affinity(PAIRS, eps=1).check(4)
    with pytest.raises(InvalidProperty, match="written for 3 classes, but the network has 4"):
        Targeted(SAFE, eps=1).check(4)


def test_uncovered_classes_warn_by_name():
    named = AffinitySets([["a"]], class_names=["a", "b", "c"])
    with pytest.warns(UncoveredClassWarning, match=r"no affinity set: b, c\."):
        Affinity(named, eps=1).check(3)
    with pytest.warns(UncoveredClassWarning, match="8, 9, 10 and 489 more"):
        Affinity(AffinitySets([[0]], 500), eps=1).check(500)


def test_builders_of_targeted():
    moved = Targeted.neighbours([3, 1, 0, 2, 4], eps=1)
    assert moved.allowed == ((0, 1, 2), (0, 1, 3), (0, 2, 4), (1, 3), (2, 4))
    assert moved == Targeted.within(AffinitySets.adjacent([3, 1, 0, 2, 4]), eps=1)
    named = Targeted.neighbours(list("cabd"), eps=1, class_names=list("abcd"))
    assert named.allowed == ((0, 1, 2), (0, 1, 3), (0, 2), (1, 3))
    two = Targeted.neighbours([0, 1, 2, 3, 4, 5], eps=1, degrees=2)
    assert two.allowed[3] == (1, 2, 3, 4, 5)


def test_ranking():
    ranking = Ranking.of([Fraction(1), Fraction(3), Fraction(1), Fraction(0)])
    assert ranking.order == (1, 0, 2, 3)
    assert ranking.tied == {2}
    assert ranking.top(2) == {0, 1}
    with pytest.raises(InvalidInput, match="at least 2"):
        Ranking.of([1])


def test_admissible_lengths():
    tie = Ranking.of([3, 3, 1, 0])
    assert RelaxedTopK(3, eps=1).admissible(tie) == (2, 3)
    assert Local(eps=1).admissible(tie) == ()
    sets = AffinitySets([[0, 1], [2, 3]], 4)
    assert Affinity(sets, eps=1).admissible(tie) == (2,)
    assert Affinity(sets, eps=1).admissible(Ranking.of([3, 0, 2, 1])) == (1,)
