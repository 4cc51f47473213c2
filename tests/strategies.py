"""Hypothesis strategies for the property layer: radii, sets, properties, logits, documents."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from hypothesis import strategies as st

from relaxcert.spec import (
    Affinity,
    AffinitySets,
    Ball,
    Conjunction,
    Disjunction,
    Local,
    Property,
    RelaxedTopK,
    Targeted,
    TopK,
    format_eps,
)

Logits = tuple[Fraction, ...]

norms = st.sampled_from(["l2", "linf", "l1"])
quantifiers = st.sampled_from(["uniform", "pointwise"])
class_counts = st.integers(3, 6)

ratios = st.fractions(min_value=Fraction(1, 10**6), max_value=1000, max_denominator=10**6)
positive_floats = st.floats(
    min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False, allow_subnormal=True
)
decimal_texts = st.decimals(min_value="0.0001", max_value="9999", places=4).map(str)
ratio_texts = st.tuples(st.integers(1, 999), st.integers(1, 999)).map(lambda p: f"{p[0]}/{p[1]}")
eps_likes = st.one_of(ratios, positive_floats, decimal_texts, ratio_texts, st.integers(1, 1000))
eps_texts = st.one_of(decimal_texts, ratio_texts, ratios.map(format_eps))


def subsets(count: int, least: int = 1) -> st.SearchStrategy[list[int]]:
    """Sets of classes that are neither empty nor everything."""
    labels = st.integers(0, count - 1)
    return st.lists(labels, min_size=least, max_size=count - 1, unique=True)


@st.composite
def affinity_sets(draw, count: int, *, covered: bool = True) -> AffinitySets:
    """Affinity sets, overlapping or not; with ``covered``, each class lies in one at least."""
    sets = AffinitySets(draw(st.lists(subsets(count), min_size=1, max_size=4)), count)
    if not covered:
        return sets
    return AffinitySets([*sets.sets, *([label] for label in sets.uncovered)], count)


@st.composite
def targeted(draw, count: int) -> Targeted:
    allowed = []
    for label in range(count):
        others = [other for other in range(count) if other != label]
        extra = draw(st.lists(st.sampled_from(others), max_size=count - 2, unique=True))
        allowed.append([label, *extra])
    return Targeted(allowed, eps=draw(eps_likes), norm=draw(norms))


@st.composite
def simple_properties(draw, count: int, *, covered: bool = True) -> Property:
    """A property of any kind that is not composed, fit for ``count`` classes."""
    ball = {"eps": draw(eps_likes), "norm": draw(norms)}
    k = draw(st.integers(1, count - 1))
    match draw(st.sampled_from(["local", "top-k", "relaxed-top-k", "affinity", "targeted"])):
        case "local":
            return Local(**ball)
        case "top-k":
            return TopK(k, **ball)
        case "relaxed-top-k":
            return RelaxedTopK(k, **ball, quantifier=draw(quantifiers))
        case "affinity":
            sets = draw(affinity_sets(count, covered=covered))
            return Affinity(sets, **ball, quantifier=draw(quantifiers))
        case _:
            return draw(targeted(count))


def properties(count: int, *, covered: bool = True) -> st.SearchStrategy[Property]:
    """Any property, composed or not, fit for ``count`` classes."""
    return st.recursive(
        simple_properties(count, covered=covered),
        lambda inner: st.builds(
            lambda kind, parts: kind(*parts),
            st.sampled_from([Conjunction, Disjunction]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        max_leaves=4,
    )


def logits(count: int) -> st.SearchStrategy[Logits]:
    """Exact logits from so few values that ties are common."""
    value = st.integers(0, 4).map(lambda half: Fraction(half, 2))
    return st.tuples(*[value] * count)


@dataclass(frozen=True)
class Scene:
    """A property, the logits at x, and the logits at the points of each of its balls."""

    prop: Property
    centre: Logits
    points: dict[Ball, list[Logits]]

    def logits_in(self, ball: Ball) -> list[Logits]:
        return self.points[ball]


def nearby(centre: Logits) -> st.SearchStrategy[Logits]:
    """Logits that differ from ``centre`` in one or two places only, so that much stays as it is."""
    place = st.integers(0, len(centre) - 1)
    change = st.integers(-2, 2).map(lambda half: Fraction(half, 2))

    def moved(changes: list[tuple[int, Fraction]]) -> Logits:
        values = list(centre)
        for where, by in changes:
            values[where] += by
        return tuple(values)

    return st.lists(st.tuples(place, change), max_size=2).map(moved)


@st.composite
def points_around(draw, centre: Logits) -> list[Logits]:
    """At least one point; whether x itself is among them is left to chance."""
    anything = st.one_of(nearby(centre), nearby(centre), logits(len(centre)))
    return draw(st.lists(anything, min_size=1, max_size=4))


@st.composite
def scenes(draw, prop: st.SearchStrategy[Property] | None = None, count: int | None = None):
    """A scene for any property, or for one drawn from ``prop`` with ``count`` classes."""
    count = draw(class_counts) if count is None else count
    chosen = draw(properties(count, covered=False) if prop is None else prop)
    centre = draw(logits(count))
    points = {ball: draw(points_around(centre)) for ball in dict.fromkeys(chosen.balls)}
    return Scene(chosen, centre, points)


class_names_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(
    lambda text: text + "x"
)


def class_names(count: int) -> st.SearchStrategy[list[str]]:
    """Distinct names with anything in them: quotes, line ends, digits, other scripts."""
    digits = st.integers(0, 20).map(str)
    return st.lists(
        st.one_of(class_names_text, digits), min_size=count, max_size=count, unique=True
    )


@st.composite
def tables(draw, count: int, groups: tuple[str, ...]) -> dict[str, object]:
    """A ``[property]`` table in any of the spellings that only documents have."""
    table: dict[str, object] = {"eps": draw(eps_texts), "norm": draw(norms)}
    order = draw(st.permutations(range(count)))
    cut = draw(st.integers(1, count - 1))
    partition = [list(order[:cut]), list(order[cut:])]
    match draw(st.sampled_from(["adjacent", "sets", "neighbours", "within", "any"])):
        case "adjacent":
            width = draw(st.integers(2, count - 1))
            return {**table, "kind": "affinity", "adjacent": order, "width": width}
        case "sets":
            sets = [*draw(st.lists(subsets(count), max_size=2)), *groups]
            return {**table, "kind": "affinity", "sets": sets, "singletons": True}
        case "neighbours":
            return {**table, "kind": "targeted", "neighbours": order, "degrees": 1}
        case "within":
            return {**table, "kind": "targeted", "within": partition}
        case _:
            parts = [{**table, "kind": "local"}, {**table, "kind": "affinity", "sets": partition}]
            return {"kind": draw(st.sampled_from(["all", "any"])), "parts": parts}


document_names = st.from_regex(r"[a-z0-9]{1,4}(-[a-z]{1,3})?(/[a-z0-9]{1,5})?", fullmatch=True)


@st.composite
def document_data(draw) -> dict[str, object]:
    """The plain data of a valid property document."""
    count = draw(st.integers(4, 6))
    groups = {"some group": draw(subsets(count))}
    data: dict[str, object] = {
        "relaxcert": 1,
        "name": draw(
            st.from_regex(r"[a-z0-9]{1,4}(-[a-z]{1,3})?(/[a-z0-9]{1,5})?", fullmatch=True)
        ),
        "title": draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=10)),
        "source": draw(class_names_text),
        "num_classes": count,
        "best": draw(st.sampled_from(["max", "min"])),
        "groups": groups,
        "property": draw(tables(count, tuple(groups))),
    }
    if draw(st.booleans()):
        data["class_names"] = draw(class_names(count))
    return data
