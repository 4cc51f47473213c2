"""A formula that is wrong must be found out: the same comparison with mutants, on seeded cases."""

import random
from fractions import Fraction

from relaxcert.spec import (
    Affinity,
    AffinitySets,
    AnyOf,
    Ball,
    Beats,
    Local,
    RelaxedTopK,
    Targeted,
    Throughout,
    TopK,
)
from relaxcert.spec import formula as formulas
from relaxcert.spec import prefix as prefixes
from relaxcert.spec import reference as definitions
from relaxcert.spec.ranking import Ranking
from relaxcert.spec.reference import holds
from tests.strategies import Scene


def says(prop, centre, logits_in):
    """The verdict of the property's formula."""
    return formulas.holds_on(prop.formula(Ranking.of(centre)), logits_in)


def seeded_scenes(number=3000):
    """Scenes from a fixed seed, with many ties, over the kinds that mutations touch."""
    source = random.Random(20211)
    for _ in range(number):
        count = source.randint(3, 5)
        centre = tuple(Fraction(source.randint(0, 3)) for _ in range(count))
        points = []
        for _ in range(source.randint(1, 3)):
            moved = list(centre)
            moved[source.randrange(count)] += source.choice([-1, 0, 1])
            points.append(tuple(moved))
        quantifier = source.choice(["uniform", "pointwise"])
        members = source.sample(range(count), source.randint(1, count - 1))
        prop = source.choice(
            [
                Local(eps=1),
                TopK(source.randint(1, count - 1), eps=1),
                RelaxedTopK(source.randint(1, count - 1), eps=1, quantifier=quantifier),
                Affinity(AffinitySets([members], count), eps=1, quantifier=quantifier),
                Targeted([sorted({label, 0}) for label in range(count)], eps=1),
            ]
        )
        yield Scene(prop, centre, {Ball.of(1): points})


def disagreements():
    return [
        scene
        for scene in seeded_scenes()
        if says(scene.prop, scene.centre, scene.logits_in)
        != holds(scene.prop, scene.centre, scene.logits_in)
    ]


def test_the_seeded_cases_agree_and_are_telling():
    assert disagreements() == []
    true = sum(holds(scene.prop, scene.centre, scene.logits_in) for scene in seeded_scenes())
    assert 300 < true < 2700


def test_mutant_with_greater_or_equal_is_found(monkeypatch):
    right = formulas.holds_at

    def loose(body, values):
        if isinstance(body, Beats):
            return values[body.winner] >= values[body.loser]
        return right(body, values)

    monkeypatch.setattr(formulas, "holds_at", loose)
    found = disagreements()
    assert len(found) > 5
    assert {type(scene.prop) for scene in found} >= {Local, TopK, RelaxedTopK, Affinity, Targeted}


def test_mutant_that_admits_ties_is_found(monkeypatch):
    def admits_ties(self, ranking):
        sets = self.affinity_sets
        return tuple(
            k
            for k in self.lengths()
            if k < ranking.num_classes and (sets is None or sets.admits(ranking.top(k)))
        )

    monkeypatch.setattr(prefixes.PrefixProperty, "admissible", admits_ties)
    assert len(disagreements()) > 5


def test_mutant_that_mixes_up_the_quantifiers_is_found(monkeypatch):
    def one_for_all(self, ranking):
        return AnyOf(
            tuple(
                Throughout(self.ball, formulas.prefix_invariant(ranking, k))
                for k in self.admissible(ranking)
            )
        )

    monkeypatch.setattr(prefixes.PrefixProperty, "formula", one_for_all)
    found = disagreements()
    assert found
    assert all(scene.prop.quantifier == "pointwise" for scene in found)


def test_mutant_reference_is_found(monkeypatch):
    def first_k(values, k):
        """Membership by rank, which breaks a tie at x' by the class number."""
        return frozenset(sorted(range(len(values)), key=lambda j: (-values[j], j))[:k])

    monkeypatch.setattr(definitions, "top_set", first_k)
    assert len(disagreements()) > 5
