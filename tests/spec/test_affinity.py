import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.errors import InvalidProperty, VacuousProperty
from relaxcert.spec import AffinitySets
from tests.strategies import affinity_sets, class_counts


def test_value_semantics_ignore_order_and_names():
    plain = AffinitySets([[2, 1], [0]], 3)
    named = AffinitySets([["a"], ["b", "c"]], class_names=["a", "b", "c"])
    assert plain == named
    assert hash(plain) == hash(named)
    assert plain != AffinitySets([[2, 1], [0]], 4)
    assert plain != [[2, 1], [0]]
    assert len(plain) == 2
    assert plain.with_names(["x", "y", "z"]).name(2) == "z"
    assert plain.name(2) == "2"


def test_frozen_and_copied():
    sets = AffinitySets([["a"], ["b"]], class_names=["a", "b", "c"])
    with pytest.raises(AttributeError, match="frozen"):
        sets.num_classes = 4
    with pytest.raises(AttributeError, match="frozen"):
        del sets.sets
    for twin in (copy.copy(sets), copy.deepcopy(sets), pickle.loads(pickle.dumps(sets))):
        assert twin == sets
        assert twin.class_names == sets.class_names


@given(class_counts.flatmap(lambda n: affinity_sets(n, covered=False)))
@settings(deadline=None)
def test_repr_evaluates_back(sets):
    assert eval(repr(sets)) == sets
    named = sets.with_names([f"c{i}" for i in range(sets.num_classes)])
    assert eval(repr(named)).class_names == named.class_names


@given(class_counts.flatmap(lambda n: affinity_sets(n, covered=False)), st.data())
@settings(deadline=None)
def test_queries_agree_with_their_definitions(sets, data):
    count = sets.num_classes
    labels = data.draw(st.sets(st.integers(0, count - 1)))
    assert sets.admits(labels) == any(labels <= set(members) for members in sets.sets)
    covered = set().union(*sets.sets)
    assert set(sets.uncovered) == set(range(count)) - covered
    assert sets.largest == max(map(len, sets.sets))
    once = all(sum(label in members for members in sets.sets) == 1 for label in range(count))
    assert sets.is_partition() == once
    together = {
        (a, b)
        for a in range(count)
        for b in range(count)
        if a != b and any({a, b} <= set(members) for members in sets.sets)
    }
    transitive = all(
        (a, c) in together for a, b in together for b2, c in together if b == b2 and a != c
    )
    assert sets.is_transitive() == transitive
    for label in range(count):
        assert set(sets.sets_of(label)) == {m for m in sets.sets if label in m}


def test_builders():
    pairs = AffinitySets.adjacent([3, 1, 0, 2, 4])
    assert pairs.sets == ((0, 1), (0, 2), (1, 3), (2, 4))
    assert not pairs.is_transitive()
    triples = AffinitySets.adjacent(["b", "a", "c", "d"], width=3, class_names=list("abcd"))
    assert triples.sets == ((0, 1, 2), (0, 2, 3))
    groups = AffinitySets.from_groups({"soil": ["a", "c"]}, class_names=["a", "b", "c"])
    assert groups.sets == ((0, 2), (1,))
    assert groups.is_partition()
    bare = AffinitySets.from_groups({"soil": [0, 2]}, 3, singletons=False)
    assert bare.uncovered == (1,)
    coarse = AffinitySets.from_superclasses(["fish", "tree", "fish"])
    assert coarse.sets == ((0, 2), (1,))
    assert AffinitySets([np.array([0, 1])], np.int64(3)) == AffinitySets([[0, 1]], 3)


@pytest.mark.parametrize(
    ("build", "fragment"),
    [
        (lambda: AffinitySets([], 3), "at least one affinity set"),
        (lambda: AffinitySets([[]], 3), "empty"),
        (lambda: AffinitySets([[0, 0]], 3), "twice"),
        (lambda: AffinitySets([[3]], 3), "out of range: with 3 classes, indices go from 0 to 2"),
        (lambda: AffinitySets([[-1]], 3), "out of range"),
        (lambda: AffinitySets([[1.0]], 3), "must be an index"),
        (lambda: AffinitySets([[True]], 3), "must be an index"),
        (lambda: AffinitySets([0, 1], 3), "list of lists"),
        (lambda: AffinitySets(["ab"], class_names=["a", "b", "c"]), "not one text|list of lists"),
        (lambda: AffinitySets([["a"]], 3), "no class names"),
        (lambda: AffinitySets([["cta"]], class_names=["cat", "dog"]), "Did you mean 'cat'"),
        (lambda: AffinitySets([[0]]), "num_classes is missing"),
        (lambda: AffinitySets([[0]], 1), "at least 2"),
        (lambda: AffinitySets([[0]], 3.0), "whole number"),
        (lambda: AffinitySets([[0]], "3"), "whole number"),
        (lambda: AffinitySets([[0]], True), "whole number"),
        (lambda: AffinitySets([[0]], 3, class_names=["a", "b"]), "must agree"),
        (lambda: AffinitySets([[0]], class_names=["a", "a"]), "repeat"),
        (lambda: AffinitySets([[0]], class_names="abc"), "list of texts"),
        (lambda: AffinitySets([[0]], class_names=["a", 1]), "list of texts"),
        (lambda: AffinitySets.adjacent([0, 1, 1]), "exactly once"),
        (lambda: AffinitySets.adjacent([0, 1, 2], width=1), "width=1"),
        (lambda: AffinitySets.adjacent([0, 1, 2], width=4), "width=4"),
    ],
)
def test_mistakes_are_named(build, fragment):
    with pytest.raises(InvalidProperty, match=fragment):
        build()


def test_a_set_of_everything_is_vacuous():
    with pytest.raises(VacuousProperty, match="all 3 classes"):
        AffinitySets([[0, 1, 2]], 3)
    with pytest.raises(VacuousProperty, match="all 3 classes"):
        AffinitySets.adjacent([0, 1, 2], width=3)


def test_a_long_list_of_names_is_cut():
    names = [f"class {i}" for i in range(100)]
    with pytest.raises(InvalidProperty) as caught:
        AffinitySets([["klass 7"]], class_names=names)
    assert "class 99" not in str(caught.value)
    assert "Did you mean 'class 7'" in str(caught.value)
