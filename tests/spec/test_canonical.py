from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.errors import DocumentError
from relaxcert.spec import (
    Affinity,
    AffinitySets,
    AnyOf,
    Ball,
    Conjunction,
    Disjunction,
    Local,
    PrefixProperty,
    Property,
    RelaxedTopK,
    Targeted,
    TopK,
    canonical_json,
    digest,
    document_of,
    from_canonical,
)
from tests.strategies import class_counts, properties

CHECKED = settings(deadline=None, max_examples=60)


@given(class_counts.flatmap(lambda n: properties(n, covered=False)))
@CHECKED
def test_canonical_form_and_back(prop):
    text = canonical_json(prop)
    assert from_canonical(text) == prop
    assert canonical_json(from_canonical(text)) == text
    assert text.isascii()
    assert " " not in text


SETS = AffinitySets([[0, 1], [2]], 3)


def test_canonical_texts():
    assert canonical_json(Local(eps="0.030")) == '{"eps":"3/100","kind":"local","norm":"l2"}'
    assert canonical_json(Affinity(SETS, eps=2, norm="linf")) == (
        '{"eps":"2/1","kind":"affinity","norm":"linf","num_classes":3,'
        '"quantifier":"uniform","sets":[[0,1],[2]]}'
    )
    known = "507af1af"  # of the catalogue's landsat/local: a stamp must not change between releases
    assert digest(Local(eps="0.03")).startswith(known)
    assert len(digest(Local(eps=1))) == 64


@given(st.data(), class_counts)
@CHECKED
def test_digest_ignores_order_and_names(data, count):
    parts = data.draw(st.lists(properties(count), min_size=2, max_size=3))
    kind = data.draw(st.sampled_from([Conjunction, Disjunction]))
    mixed = data.draw(st.permutations(parts))
    assert digest(kind(*parts)) == digest(kind(*mixed))
    names = [f"class {label}" for label in range(count)]
    sets = AffinitySets([[0, 1], [2]], count)
    assert digest(Affinity(sets, eps=1)) == digest(Affinity(sets.with_names(names), eps=1))


@given(class_counts.flatmap(lambda n: st.tuples(properties(n), properties(n))))
@CHECKED
def test_digest_is_equality(pair):
    one, other = pair
    assert (digest(one) == digest(other)) == (one == other)


def test_digest_changes_with_all_that_means_something():
    variants = [
        Local(eps=1),
        Local(eps=2),
        Local(eps=1, norm="l1"),
        Local(eps=Fraction(1.1)),
        Local(eps="1.1"),
        TopK(1, eps=1),
        TopK(2, eps=1),
        RelaxedTopK(2, eps=1),
        RelaxedTopK(2, eps=1, quantifier="pointwise"),
        Affinity(SETS, eps=1),
        Affinity(SETS, eps=1, quantifier="pointwise"),
        Affinity(AffinitySets([[0, 1], [2]], 4), eps=1),
        Affinity(AffinitySets([[0, 2], [1]], 3), eps=1),
        Targeted([[0], [1], [2]], eps=1),
        Targeted([[0], [1], [1, 2]], eps=1),
        Local(eps=1) & TopK(2, eps=1),
        Local(eps=1) | TopK(2, eps=1),
        Local(eps=1) & TopK(2, eps=2),
    ]
    assert len({digest(prop) for prop in variants}) == len(variants)


LOCAL = '{"eps":"3/100","kind":"local","norm":"l2"}'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not valid JSON"),
        ("null", "does not fit"),
        ("[1]", "does not fit"),
        ("{}", "kind is missing"),
        ("[" * 100_000, "nested"),
        ('{"kind":"all","parts":[' * 60 + LOCAL + "]}" * 60, "nested"),
        ("9" * 5000, "not valid JSON"),
        (LOCAL.replace("local", "locale"), "'locale' is not a known kind.*Did you mean 'local'"),
        (LOCAL.replace('"norm"', '"x":1,"norm"'), "x=1 is not a known field"),
        (LOCAL.replace("3/100", "0/1"), "greater than 0"),
        (LOCAL.replace('"3/100"', "0.03"), "must be text"),
        (LOCAL.replace('"3/100"', "NaN"), "must be text"),
        (LOCAL.replace("3/100", "6/200"), "not its canonical form"),
        (LOCAL.replace("3/100", "0.03"), "not its canonical form"),
        (LOCAL.replace(",", ", "), "not its canonical form"),
        (LOCAL.replace(',"norm":"l2"', ""), "not its canonical form"),
        (LOCAL.replace('"norm":"l2"', '"norm":"l2","norm":"l2"'), "not its canonical form"),
        ('{"kind":"all","parts":[]}', "parts"),
        (canonical_json(TopK(2, eps=1)).replace("2", "0", 1), "k=0"),
        (canonical_json(Affinity(SETS, eps=1)).replace("[2]", "[3]"), "out of range"),
        (canonical_json(Affinity(SETS, eps=1)).replace("[2]", "[2.0]"), "sets"),
        (canonical_json(Affinity(SETS, eps=1)).replace("[[0,1],[2]]", "[[2],[0,1]]"), "canonical"),
        (canonical_json(Targeted([[0], [1]], eps=1)).replace("[0]", "[1]"), "must hold 0 itself"),
    ],
)
def test_untrusted_canonical_text(text, problem):
    with pytest.raises(DocumentError, match=problem) as caught:
        from_canonical(text, origin="model.safetensors")
    assert str(caught.value).startswith("model.safetensors: ")


def test_compositions_nested_without_end_are_refused_when_written():
    prop: Property = Local(eps=1)
    for level in range(2, 100):
        prop = prop & TopK(1, eps=level) if level % 2 else prop | TopK(1, eps=level)
    with pytest.raises(DocumentError, match="nested"):
        canonical_json(prop)


# Properties of the user's own.


class Second(PrefixProperty):
    """The pair of the two best classes stays, if it lies in a set."""

    def __init__(self, eps, sets=None):
        self.ball = Ball.of(eps)
        self.sets = sets

    def lengths(self):
        return (2,)

    @property
    def affinity_sets(self):
        return self.sets


def test_own_prefix_property_has_a_canonical_form():
    text = canonical_json(Second(1, SETS))
    assert text == (
        '{"eps":"1/1","kind":"prefix","lengths":[2],"norm":"l2","num_classes":3,'
        '"quantifier":"uniform","sets":[[0,1],[2]]}'
    )
    assert digest(Second(1)) != digest(Second(1, SETS)) != digest(Second(2, SETS))
    with pytest.raises(DocumentError, match=r"somebody's own.*Python class"):
        from_canonical(text)
    with pytest.raises(DocumentError, match="Second has no document form"):
        document_of(Second(1), name="a", source="b", num_classes=3)


def test_what_has_no_canonical_form_says_so():
    class Strange(Second):
        def formula(self, _ranking):
            return AnyOf(())

    class Other(Property):
        balls = ()

        def with_eps(self, _eps):
            return self

        def check(self, num_classes):
            pass

        def formula(self, _ranking):
            return AnyOf(())

    class Stricter(Local):
        def lengths(self):
            return (1, 2)

    with pytest.raises(DocumentError, match=r"Strange overrides formula\(\)"):
        canonical_json(Strange(1))
    with pytest.raises(DocumentError, match="Other has no canonical form"):
        canonical_json(Local(eps=1) & Other())
    # A subclass of a built-in kind is not taken for that kind.
    assert '"kind":"prefix","lengths":[1,2]' in canonical_json(Stricter(eps=1))
    with pytest.raises(DocumentError, match="Stricter has no document form"):
        document_of(Stricter(eps=1), name="a", source="b", num_classes=3)
