"""Strategies for what must hold: balls, affinity sets, properties, and ones that must be refused.

``num_classes`` is always a number, not a strategy: what is drawn fits networks with that many
logits. Sizes stay small because everything that is drawn is meant for exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, Literal, get_args

from hypothesis import strategies as st

from relaxcert.spec.affinity import AffinitySets
from relaxcert.spec.ball import NORMS, Ball, EpsLike, Norm
from relaxcert.spec.prefix import Affinity, Local, Quantifier, RelaxedTopK, TopK
from relaxcert.spec.property import Conjunction, Disjunction, Property
from relaxcert.spec.targeted import Targeted

Kind = Literal["local", "top-k", "relaxed-top-k", "affinity", "targeted"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@cache
def norms() -> st.SearchStrategy[Norm]:
    """The norms of the input space; shrinks to l2."""
    return st.sampled_from(NORMS)


@cache
def quantifiers() -> st.SearchStrategy[Quantifier]:
    """``"uniform"`` (shrinks to it) or ``"pointwise"``."""
    return st.sampled_from(get_args(Quantifier))


@cache
def eps_likes() -> st.SearchStrategy[EpsLike]:
    """Radii in every spelling that a property takes: ratios, floats, decimals, texts, integers."""
    ratio = st.tuples(st.integers(1, 999), st.integers(1, 999))
    decimal = st.decimals(min_value=Decimal("0.0001"), max_value=9999, places=4)
    floats = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)
    exact = st.fractions(min_value=Fraction(1, 10**6), max_value=1000, max_denominator=10**6)
    texts = st.one_of(decimal.map(str), ratio.map(lambda pair: f"{pair[0]}/{pair[1]}"))
    return st.one_of(st.integers(1, 1000), exact, floats, texts)


def balls(
    *, eps: st.SearchStrategy[EpsLike] | None = None, norm: st.SearchStrategy[Norm] | None = None
) -> st.SearchStrategy[Ball]:
    """Balls; by default of any radius (in any spelling) and norm."""
    return st.builds(
        Ball.of, eps_likes() if eps is None else eps, norms() if norm is None else norm
    )


def subsets(num_classes: int, *, least: int = 1) -> st.SearchStrategy[list[int]]:
    """Sets of classes with at least ``least`` members that do not hold every class."""
    labels = st.integers(0, num_classes - 1)
    return st.lists(labels, min_size=least, max_size=num_classes - 1, unique=True)


@st.composite
def affinity_sets(draw: st.DrawFn, num_classes: int, *, covered: bool = True) -> AffinitySets:
    """Affinity sets, overlapping or not; with ``covered``, each class lies in one at least."""
    sets = AffinitySets(draw(st.lists(subsets(num_classes), min_size=1, max_size=4)), num_classes)
    if not covered:
        return sets
    return AffinitySets([*sets.sets, *([label] for label in sets.uncovered)], num_classes)


@st.composite
def targeted(
    draw: st.DrawFn, num_classes: int, *, ball: st.SearchStrategy[Ball] | None = None
) -> Targeted:
    """Targeted properties: each class allows itself and some, never all, of the others."""
    allowed: list[list[int]] = []
    for label in range(num_classes):
        others = [other for other in range(num_classes) if other != label]
        extra = st.lists(st.sampled_from(others), max_size=num_classes - 2, unique=True)
        allowed.append([label, *draw(extra)])
    around = draw(balls() if ball is None else ball)
    return Targeted(allowed, eps=around.eps, norm=around.norm)


@st.composite
def simple_properties(
    draw: st.DrawFn,
    num_classes: int,
    *,
    ball: st.SearchStrategy[Ball] | None = None,
    kinds: Sequence[Kind] = KINDS,
    covered: bool = True,
) -> Property:
    """A property of one of ``kinds`` that is not composed; see :func:`properties`."""
    around = draw(balls() if ball is None else ball)
    where: Any = {"eps": around.eps, "norm": around.norm}
    k = draw(st.integers(1, num_classes - 1))
    match draw(st.sampled_from(list(kinds))):
        case "local":
            return Local(**where)
        case "top-k":
            return TopK(k, **where)
        case "relaxed-top-k":
            return RelaxedTopK(k, **where, quantifier=draw(quantifiers()))
        case "affinity":
            sets = draw(affinity_sets(num_classes, covered=covered))
            return Affinity(sets, **where, quantifier=draw(quantifiers()))
        case "targeted":
            return draw(targeted(num_classes, ball=st.just(around)))


def properties(
    num_classes: int,
    *,
    ball: st.SearchStrategy[Ball] | None = None,
    kinds: Sequence[Kind] = KINDS,
    compositions: bool = True,
    covered: bool = True,
) -> st.SearchStrategy[Property]:
    """Any valid property for ``num_classes`` classes, of every kind and both quantifier orders.

    Args:
        num_classes: at least 3.
        ball: the balls to draw from; by default any.
        kinds: the kinds to draw from.
        compositions: with ``&`` and ``|``, nested, each part on its own ball.
        covered: whether each class must lie in an affinity set (else ``check`` warns).
    """
    simple = simple_properties(num_classes, ball=ball, kinds=kinds, covered=covered)
    if not compositions:
        return simple
    return st.recursive(simple, _compositions, max_leaves=4)


def _compositions(parts: st.SearchStrategy[Property]) -> st.SearchStrategy[Property]:
    several = st.lists(parts, min_size=1, max_size=3)
    both = several.map(lambda members: Conjunction(*members))
    either = several.map(lambda members: Disjunction(*members))
    return st.one_of(both, either)


@st.composite
def invalid_properties(draw: st.DrawFn, num_classes: int) -> Property:
    """Properties that ``check(num_classes)`` must refuse: vacuous, or for other classes.

    A composition with one bad part is among them.
    """
    others = num_classes + draw(st.integers(1, 3))
    where: Any = {"eps": 1}
    k = num_classes + draw(st.integers(0, 3))
    bad: Property
    match draw(st.sampled_from(["top-k", "relaxed-top-k", "affinity", "targeted"])):
        case "top-k":
            bad = TopK(k, **where)
        case "relaxed-top-k":
            bad = RelaxedTopK(k, **where, quantifier=draw(quantifiers()))
        case "affinity":
            bad = Affinity(draw(affinity_sets(others)), **where)
        case _:
            bad = draw(targeted(others))
    if not draw(st.booleans()):
        return bad
    good = draw(simple_properties(num_classes))
    return draw(st.sampled_from([Conjunction, Disjunction]))(good, bad)


def invalid_arguments(num_classes: int) -> st.SearchStrategy[Callable[[], object]]:
    """Calls without arguments that must raise InvalidProperty: nothing of the kind can be built.

    Radii of 0, below, NaN and infinite; k below 1; unknown norms and quantifiers; affinity sets
    that are empty, hold every class, or name a class that does not exist.
    """
    radii: list[EpsLike] = [0, -1, 0.0, float("nan"), float("inf"), "0", "-0.03", "1/0", "x", ""]
    unknown: Any = "l3"
    order: Any = "both"
    everything = list(range(num_classes))
    sets: list[list[list[int]]] = [[], [[]], [everything], [[num_classes]], [[-1]], [[0, 0]]]
    calls: list[Callable[[], object]] = [
        *(lambda eps=eps: Local(eps=eps) for eps in radii),
        *(lambda k=k: TopK(k, eps=1) for k in (0, -1)),
        *(lambda k=k: RelaxedTopK(k, eps=1) for k in (0, -1)),
        lambda: Local(eps=1, norm=unknown),
        lambda: RelaxedTopK(1, eps=1, quantifier=order),
        *(lambda given=given: AffinitySets(given, num_classes) for given in sets),
        lambda: Targeted([everything] * num_classes, eps=1),
        lambda: Targeted([[1], *([label] for label in range(1, num_classes))], eps=1),
    ]
    return st.sampled_from(calls)
