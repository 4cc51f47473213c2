"""What a property means: formula against definition, renaming of classes, documents, copies."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

from hypothesis import strategies as st

from relaxcert.errors import DocumentError, InvalidProperty, UncoveredClassWarning
from relaxcert.spec import formula as formulas
from relaxcert.spec import reference as definitions
from relaxcert.spec.affinity import AffinitySets
from relaxcert.spec.canonical import canonical_json, digest, from_canonical
from relaxcert.spec.documents import document_of, parse_document
from relaxcert.spec.prefix import Affinity, PrefixProperty
from relaxcert.spec.property import Conjunction, Disjunction, Property
from relaxcert.spec.ranking import Ranking
from relaxcert.spec.targeted import Targeted
from relaxcert.spec.writing import classes_of
from relaxcert.testing.running import ConformanceFailure, for_all, refuses, require
from relaxcert.testing.strategies.scores import Scene, broken_boundaries, scenes, weak_orders

_ENUMERATED = 4  # classes up to which all orders are enumerated: 75 for four
_MOST_CLASSES = 12  # more are not needed to tell properties apart, and references are slow


class PropertyCase:
    """The property under test and what the suites must know of it."""

    property_under_test: Property | None = None
    num_classes: int | None = None

    def make_property(self) -> Property:
        """The property; override it where a class attribute will not do."""
        if self.property_under_test is None:
            raise ConformanceFailure(
                f"{type(self).__name__} names no property: set property_under_test = ..."
            )
        return self.property_under_test

    @property
    def classes(self) -> int:
        """The number of classes that the suite tests with."""
        if self.num_classes is not None:
            return self.num_classes
        known, _ = classes_of(self.make_property())
        if known is not None:
            return known
        for count in range(3, _MOST_CLASSES):
            if _fits(self.make_property(), count):
                return max(4, count)
        raise ConformanceFailure(
            f"no number of classes below {_MOST_CLASSES} fits {self.make_property()!r}: set "
            "num_classes on the suite."
        )

    def reference(self, centre: Sequence[Fraction], logits_in: definitions.LogitsIn) -> bool:
        """Whether the property holds, by definition, on exact logits.

        The default knows the paper's definitions, and takes a prefix property of your own at its
        word about lengths and sets; say here in other words what yours means.
        """
        return definitions.holds(self.make_property(), centre, logits_in)

    def permuted(self, permutation: Sequence[int]) -> Property | None:
        """The property after class c is renamed to ``permutation[c]``; None if that is unknown."""
        return permuted(self.make_property(), permutation)


class PropertyMeaning(PropertyCase):
    """Checks without a network."""

    def test_the_formula_agrees_with_the_definition_where_logits_tie(self) -> None:
        """The formula, which all backends compile, against the reference on exact tied logits."""
        prop = self.make_property()

        @for_all(scenes(st.just(prop), num_classes=self.classes))
        def agree(scene: Scene) -> None:
            self._check_scene(scene)

        del agree

    def test_the_formula_agrees_with_the_definition_on_every_order_of_few_classes(self) -> None:
        """Up to four classes: all orders with ties at x against all at one x', without sampling.

        And every two points at each of which one boundary of the ranking is broken, which tells
        the two orders of the quantifiers apart.
        """
        prop, classes = self.make_property(), self.classes
        if classes > _ENUMERATED:
            return
        orders = list(weak_orders(classes))
        for centre in orders:
            moved = [point for points in broken_boundaries(centre) for point in points]
            chosen = [[point] for point in orders] + [list(two) for two in combinations(moved, 2)]
            for points in chosen:
                self._check_scene(Scene(prop, centre, dict.fromkeys(prop.balls, points)))

    def _check_scene(self, scene: Scene) -> None:
        prop = scene.prop
        said = formulas.holds_on(prop.formula(Ranking.of(scene.centre)), scene.logits_in)
        meant = self.reference(scene.centre, scene.logits_in)
        require(
            said == meant,
            f"the formula of {prop!r} says {said}, its definition {meant}, at logits "
            f"{_shown(scene.centre)} with {_listed(scene)} in the ball.",
        )

    def test_renaming_the_classes_changes_nothing(self) -> None:
        """Label permutation equivariance of the formula."""
        prop, classes = self.make_property(), self.classes

        @for_all(
            scenes(st.just(prop), num_classes=classes), st.permutations(range(classes)), share=0.3
        )
        def same(scene: Scene, permutation: Sequence[int]) -> None:
            renamed = self.permuted(permutation)
            if renamed is None:
                return
            moved = _rename(permutation)
            centre = moved(scene.centre)
            points = {
                other: [moved(point) for point in scene.points[ball]]
                for ball, other in zip(prop.balls, renamed.balls, strict=True)
            }
            before = formulas.holds_on(prop.formula(Ranking.of(scene.centre)), scene.logits_in)
            after = formulas.holds_on(renamed.formula(Ranking.of(centre)), points.__getitem__)
            require(
                before == after,
                f"{prop!r} says {before} at logits {_shown(scene.centre)}, but {after} once the "
                f"classes are renamed by {list(permutation)}.",
            )

        del same

    def test_it_is_a_frozen_value(self) -> None:
        """Equality, hash, copies and pickles (for worker processes) are by value."""
        prop = self.make_property()
        for other in (copy.copy(prop), copy.deepcopy(prop), pickle.loads(pickle.dumps(prop))):  # noqa: S301  our own bytes
            require(other == prop, f"a copy of {prop!r} is not equal to it.")
            require(hash(other) == hash(prop), f"a copy of {prop!r} has another hash.")
        require(len(prop.balls) >= 1, f"{prop!r} speaks of no ball.")
        wider = prop.with_eps("1000/7")
        require(
            all(ball.eps == Fraction(1000, 7) for ball in wider.balls),
            f"with_eps('1000/7') of {prop!r} gives balls {wider.balls}.",
        )
        require(
            [ball.norm for ball in wider.balls] == [ball.norm for ball in prop.balls],
            f"with_eps changes the norms of {prop!r}.",
        )
        require(wider != prop, f"{prop!r} equals the same property on a larger ball.")

    def test_documents_and_digests_give_it_back(self) -> None:
        """Canonical JSON and TOML document; a kind that they do not have is refused by name."""
        prop = self.make_property()
        wider = prop.with_eps("1000/7")
        require(digest(prop) != digest(wider), f"the digest of {prop!r} ignores the radius.")
        require(digest(prop) == digest(copy.deepcopy(prop)), f"digests of {prop!r} differ.")
        if not built_in(prop):
            message = f"{prop!r} is of no built-in kind, so no text can give it back"
            refuses(DocumentError, lambda: from_canonical(canonical_json(prop)), message)
            return
        again = from_canonical(canonical_json(prop))
        require(again == prop, f"canonical JSON turns {prop!r} into {again!r}.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UncoveredClassWarning)
            document = document_of(prop, name="x", source="test", num_classes=self.classes)
            read = parse_document(document.to_toml()).to_property()
        require(read == prop, f"a document turns {prop!r} into {read!r}.")

    def test_vacuous_numbers_of_classes_are_refused(self) -> None:
        """Somewhere at or below the longest prefix the property says nothing, and ``check`` raises.

        Properties that were written for a number of classes refuse all others.
        """
        prop = self.make_property()
        require(_fits(prop, self.classes), f"{prop!r} does not fit {self.classes} classes.")
        require(not _fits(prop, 1), f"{prop!r} accepts networks with one class.")
        known, _ = classes_of(prop)
        if known is not None:
            for count in (known - 1, known + 1):
                require(not _fits(prop, count), f"{prop!r}, made for {known}, accepts {count}.")
        for leaf in leaves_of(prop):
            if isinstance(leaf, PrefixProperty):
                longest = max(leaf.lengths())
                require(
                    not _fits(leaf, longest),
                    f"{leaf!r} accepts {longest} classes, of which the top {longest} never change.",
                )


def permuted(prop: Property, permutation: Sequence[int]) -> Property | None:
    """A built-in property after class c is renamed to ``permutation[c]``.

    Prefix properties of the user's own without affinity sets speak of ranks only and stay as they
    are; for all else: None.
    """
    match prop:
        case Conjunction() | Disjunction():
            parts = [permuted(part, permutation) for part in prop.parts]
            known = [part for part in parts if part is not None]
            return type(prop)(*known) if len(known) == len(parts) else None
        case Affinity() if type(prop) is Affinity:
            sets = [[permutation[label] for label in members] for members in prop.sets.sets]
            return Affinity(
                AffinitySets(sets, prop.sets.num_classes),
                eps=prop.ball.eps,
                norm=prop.ball.norm,
                quantifier=prop.quantifier,
            )
        case Targeted() if type(prop) is Targeted:
            allowed: list[list[int]] = [[] for _ in prop.allowed]
            for label, members in enumerate(prop.allowed):
                allowed[permutation[label]] = [permutation[other] for other in members]
            return Targeted(allowed, eps=prop.ball.eps, norm=prop.ball.norm)
        case PrefixProperty() if prop.affinity_sets is None:
            return prop
        case _:
            return None


def leaves_of(prop: Property) -> list[Property]:
    """The properties that a composition is made of, at any depth."""
    if isinstance(prop, Conjunction | Disjunction):
        return [leaf for part in prop.parts for leaf in leaves_of(part)]
    return [prop]


def built_in(prop: Property) -> bool:
    """Whether documents can hold the property."""
    return all(type(leaf).__module__.startswith("relaxcert.") for leaf in leaves_of(prop))


def _fits(prop: Property, count: int) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncoveredClassWarning)
        try:
            prop.check(count)
        except InvalidProperty:
            return False
    return True


def _rename(permutation: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Moves the logit of class c to place ``permutation[c]``."""

    def moved(values: Sequence[Any]) -> tuple[Any, ...]:
        renamed: list[Any] = [None] * len(values)
        for label, value in enumerate(values):
            renamed[permutation[label]] = value
        return tuple(renamed)

    return moved


def _listed(scene: Scene) -> str:
    balls = [", ".join(map(_shown, points)) for points in scene.points.values()]
    return "; ".join(balls)


def _shown(values: Sequence[Fraction]) -> str:
    return "(" + ", ".join(map(str, values)) + ")"
