"""The queries that break a property against the paper's definitions; and none of them is spare."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.errors import InvalidProperty
from relaxcert.spec import (
    Affinity,
    AffinitySets,
    AllOf,
    AnyOf,
    Ball,
    Beats,
    Local,
    Ranking,
    RelaxedTopK,
    Targeted,
    Throughout,
    TopK,
)
from relaxcert.spec import violation as violations
from relaxcert.spec.prefix import PrefixProperty
from relaxcert.spec.reference import holds
from relaxcert.spec.violation import (
    AnyPart,
    Dnf,
    EveryPart,
    Query,
    Reaches,
    covers,
    leaves_of,
    queries_of,
    robust,
)
from tests.strategies import Scene, scenes

ORDER = Ranking(tuple(range(5)))


def says(scene: Scene) -> bool | None:
    """The verdict of the queries when each ball consists of the scene's points."""
    queries = queries_of(scene.prop, Ranking.of(scene.centre))
    answers = [
        any(query.answered_by(logits) for logits in scene.logits_in(query.ball))
        for query in leaves_of(queries)
    ]
    return robust(queries, answers)


@given(scenes())
@settings(deadline=None, max_examples=400)
def test_queries_are_the_reference(scene: Scene):
    assert says(scene) is holds(scene.prop, scene.centre, scene.logits_in)


@cache
def orders(classes: int) -> list[tuple[int, ...]]:
    """Logits in every order of the classes, with all ties: 541 for five classes."""
    every = product(range(classes), repeat=classes)
    return [logits for logits in every if len(set(logits)) == max(logits) + 1]


def naive(ranking: Ranking, ks: tuple[int, ...], logits: tuple[int, ...]) -> bool:
    """Every k is broken: some class behind k reaches some class before it."""
    order = ranking.order
    return all(any(logits[i] >= logits[j] for j in order[:k] for i in order[k:]) for k in ks)


def subsets(classes: int) -> list[tuple[int, ...]]:
    every = range(1, classes)
    chosen = product((False, True), repeat=classes - 1)
    return [tuple(k for k, kept in zip(every, keep, strict=True) if kept) for keep in chosen][1:]


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_covers_are_the_naive_product_on_every_order_with_ties(classes):
    ranking = Ranking(tuple(reversed(range(classes))))
    every = orders(classes)
    for ks in subsets(classes):
        query = Query(Ball.of(1), ks, covers(ranking, ks))
        for logits in every:
            assert query.answered_by(logits) == naive(ranking, ks, logits), (ks, logits)


def follows(dnf: Dnf, place: int, classes: int) -> bool:
    """Whether a conjunction implies the rest of the DNF: it could be left out."""
    rest = Query(Ball.of(1), (), dnf[:place] + dnf[place + 1 :])
    alone = Query(Ball.of(1), (), (dnf[place],))
    return all(rest.answered_by(logits) for logits in orders(classes) if alone.answered_by(logits))


def test_no_conjunction_can_be_left_out():
    for ks in subsets(5):
        dnf = covers(ORDER, ks)
        assert dnf
        assert not any(follows(dnf, place, 5) for place in range(len(dnf))), ks


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_wrong_start_of_links_is_noticed(monkeypatch, wrong):
    """Starting too early leaves spare conjunctions, starting too late loses violations."""
    ks, exact = (1, 2, 3), violations._least_start
    monkeypatch.setattr(
        violations, "_least_start", lambda ks, links: max(0, exact(ks, links) + wrong)
    )
    dnf = covers(ORDER, ks)
    query = Query(Ball.of(1), ks, dnf)
    spare = any(follows(dnf, place, 5) for place in range(len(dnf)))
    lost = any(not query.answered_by(logits) and naive(ORDER, ks, logits) for logits in orders(5))
    assert (spare, lost) == (wrong < 0, wrong > 0)


@pytest.mark.parametrize("classes", [4, 7, 10, 100])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_the_number_of_conjunctions(classes, k):
    if k >= classes:
        pytest.skip("k must be smaller than the number of classes")
    ranking = Ranking(tuple(range(classes)))
    assert len(covers(ranking, range(1, k + 1))) == (classes - k) * 2 ** (k - 2)
    assert len(covers(ranking, (k,))) == k * (classes - k)


def test_194_conjunctions_for_100_classes_and_k_3():
    prop = RelaxedTopK(3, eps=1, quantifier="pointwise")
    query = queries_of(prop, Ranking(tuple(range(100))))
    assert isinstance(query, Query)
    assert len(query.violation) == 194


def test_shapes_of_the_queries():
    uniform = queries_of(RelaxedTopK(3, eps=1), ORDER)
    assert isinstance(uniform, AnyPart)
    assert [query.ks for query in leaves_of(uniform)] == [(1,), (2,), (3,)]
    both = queries_of(Local(eps=1) & TopK(2, eps="0.5"), ORDER)
    assert isinstance(both, EveryPart)
    assert [query.ball.eps for query in leaves_of(both)] == [1, Fraction(1, 2)]
    targeted = queries_of(Targeted.neighbours([0, 1, 2, 3, 4], eps=1), ORDER)
    assert targeted == Query(
        Ball.of(1),
        (),
        tuple((Reaches(other, 0), Reaches(other, 1)) for other in (2, 3, 4)),
    )


def test_a_tie_at_the_top_leaves_nothing_to_ask():
    tied = Ranking((0, 1, 2), frozenset({1}))
    for prop in (Local(eps=1), Targeted([[0], [1, 2], [1, 2]], eps=1)):
        assert queries_of(prop, tied) == AnyPart(())
        assert robust(AnyPart(()), []) is False
    pointwise = Affinity(AffinitySets([[0], [1], [2]], 3), eps=1, quantifier="pointwise")
    assert queries_of(pointwise, tied) == AnyPart(())


def test_missing_answers_leave_the_verdict_open_unless_another_decides():
    any_of = queries_of(RelaxedTopK(2, eps=1), ORDER)
    assert robust(any_of, [None, False]) is True
    assert robust(any_of, [None, True]) is None
    assert robust(any_of, [True, True]) is False
    all_of = queries_of(Local(eps=1) & TopK(2, eps=2), ORDER)
    assert robust(all_of, [None, True]) is False
    assert robust(all_of, [None, False]) is None
    assert robust(all_of, [False, False]) is True


def test_too_many_conjunctions_are_refused():
    ranking = Ranking(tuple(range(40)))
    with pytest.raises(InvalidProperty, match="more than 1000 conjunctions: use quantifier='uni"):
        queries_of(RelaxedTopK(30, eps=1, quantifier="pointwise"), ranking, most=1000)


class Own(PrefixProperty):
    """A property whose formula is no longer that of its lengths."""

    ball = Ball.of(1)

    def lengths(self):
        return (1, 2)

    def formula(self, ranking):
        return Throughout(
            self.ball,
            AnyOf((AllOf((Beats(0, 1), Beats(0, 2))), AnyOf((Beats(1, 2), Beats(0, 2))))),
        )


def test_an_own_formula_is_multiplied_out():
    query = queries_of(Own(), Ranking((0, 1, 2)))
    assert isinstance(query, Query)
    # (f1 >= f0 or f2 >= f0) and f2 >= f1 and f2 >= f0; the longer conjunction holds the shorter.
    assert query.violation == ((Reaches(2, 0), Reaches(2, 1)),)


@given(st.tuples(*[st.integers(0, 2)] * 3))
def test_an_own_formula_means_its_negation(logits):
    (query,) = leaves_of(queries_of(Own(), Ranking((0, 1, 2))))
    first = logits[0] > logits[1] and logits[0] > logits[2]
    second = logits[1] > logits[2] or logits[0] > logits[2]
    assert query.answered_by(logits) == (not (first or second))
