"""Subtly wrong properties of somebody's own: each fails its suite, by the check that is named."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from relaxcert.spec import Ball, PrefixProperty
from tests.testing.wrong import checks_of, example, failed

EXAMPLE = example("custom_property")
Right, Suite = EXAMPLE.PairOrTriple, EXAMPLE.TestPairOrTriple


@dataclass(frozen=True)
class OffByOne(Right):
    """``range(2, 3)`` is (2,): triples are forgotten."""

    def lengths(self):
        return range(2, 3)


@dataclass(frozen=True)
class OneTooMany(Right):
    """Singles serve too."""

    def lengths(self):
        return (1, 2, 3)


@dataclass(frozen=True)
class TiesServe(Right):
    """A tie at the boundary is overlooked."""

    def admissible(self, ranking):
        return tuple(k for k in self.lengths() if k < ranking.num_classes)


@dataclass(frozen=True)
class KeepsItsRadius(Right):
    """with_eps gives the same property back."""

    def with_eps(self, eps):
        return self


@dataclass(frozen=True)
class EqualWhateverTheBall(PrefixProperty):
    """Two radii compare, and hash, as equal."""

    ball: Ball = field(compare=False)

    def lengths(self):
        return (2, 3)


@dataclass(frozen=True)
class EachPointItsOwn(Right):
    """The other order of the quantifiers, where the definition has one k for all x'."""

    @property
    def quantifier(self):
        return "pointwise"


@dataclass(frozen=True)
class AcceptsEveryNumberOfClasses(Right):
    """The vacuous top 3 of 3 classes is let through."""

    def check(self, num_classes):
        return None


WRONG = [
    (OffByOne, "test_the_formula_agrees_with_the_definition_where_logits_tie"),
    (OneTooMany, "test_the_formula_agrees_with_the_definition_where_logits_tie"),
    (TiesServe, "test_the_formula_agrees_with_the_definition_where_logits_tie"),
    (TiesServe, "test_what_the_head_certifies_holds_by_definition"),
    (KeepsItsRadius, "test_it_is_a_frozen_value"),
    (KeepsItsRadius, "test_documents_and_digests_give_it_back"),
    (EqualWhateverTheBall, "test_it_is_a_frozen_value"),
    (EachPointItsOwn, "test_the_formula_agrees_with_the_definition_where_logits_tie"),
    (AcceptsEveryNumberOfClasses, "test_vacuous_numbers_of_classes_are_refused"),
]


@pytest.mark.parametrize(("wrong", "check"), WRONG, ids=lambda x: getattr(x, "__name__", x))
def test_a_subtly_wrong_property_fails(wrong, check):
    assert failed(Suite, check) == "", "the example itself passes"

    class WrongSuite(Suite):
        property_under_test = wrong(Ball.of("0.1"))

    assert failed(WrongSuite, check)


@pytest.mark.parametrize("check", checks_of(Suite))
def test_the_example_passes_its_suite(check):
    assert failed(Suite, check) == ""


def test_a_suite_without_a_property_says_so():
    from relaxcert.testing import PropertyConformance

    message = failed(PropertyConformance, "test_it_is_a_frozen_value")
    assert "set property_under_test" in message
