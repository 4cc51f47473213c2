"""Strategies for logits: exact numbers, with ties at every boundary on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import inf

from hypothesis import strategies as st

from relaxcert.spec.ball import Ball
from relaxcert.spec.property import Property
from relaxcert.spec.ranking import Ranking
from relaxcert.testing.strategies.specification import properties

Logits = tuple[Fraction, ...]
_TINY = Fraction(1, 2**1074)  # the smallest denormal float64


@st.composite
def logits(
    draw: st.DrawFn,
    num_classes: int,
    *,
    ties: bool = True,
    denormals: bool = False,
    infinities: bool = False,
) -> tuple[Fraction, ...]:
    """Exact logits, shape (num_classes,), of few bits.

    Half of the time nothing is tied; else each boundary between two ranks is tied or not by a draw
    of its own, so that ties at any one, at several and at all are likely. The classes come in any
    order.

    Args:
        num_classes: how many logits.
        ties: whether logits may be equal; without, they are all different.
        denormals: whether some gaps are as small as the smallest denormal float64.
        infinities: whether the highest and lowest may be infinite; these are floats, which compare
            exactly with the others.
    """
    unit = st.integers(1, 4).map(lambda half: Fraction(half, 2))
    step = st.one_of(unit, st.just(_TINY)) if denormals else unit
    value = Fraction(draw(st.integers(-4, 4)), 2)
    ties = ties and draw(st.booleans())
    ascending: list[Fraction] = [value]
    for _ in range(num_classes - 1):
        if not (ties and draw(st.booleans())):
            value = value + draw(step)
        ascending.append(value)
    if infinities:
        ascending = _with_infinities(ascending, draw(st.sampled_from(["none", "high", "low"])))
    # The order of the classes: shrinks to class 0 on top.
    return tuple(draw(st.permutations(ascending[::-1])))


def _with_infinities(ascending: list[Fraction], where: str) -> list[Fraction]:
    infinite: list[Fraction] = [inf, -inf]  # pyright: ignore[reportAssignmentType]  as documented
    if where == "high":
        return [infinite[0] if value == ascending[-1] else value for value in ascending]
    if where == "low":
        return [infinite[1] if value == ascending[0] else value for value in ascending]
    return ascending


def rankings(num_classes: int, *, ties: bool = True) -> st.SearchStrategy[Ranking]:
    """Rankings of the classes at a point, tied at any boundaries."""
    return logits(num_classes, ties=ties).map(Ranking.of)


def nearby(centre: Logits) -> st.SearchStrategy[Logits]:
    """Logits that differ from ``centre`` in one or two places only, so that much stays as it is."""
    place = st.integers(0, len(centre) - 1)
    change = st.integers(-2, 2).map(lambda half: Fraction(half, 2))

    def moved(changes: Iterable[tuple[int, Fraction]]) -> Logits:
        values = list(centre)
        for where, by in changes:
            values[where] += by
        return tuple(values)

    return st.lists(st.tuples(place, change), max_size=2).map(moved)


def broken_boundaries(centre: Logits) -> list[tuple[Logits, Logits]]:
    """For each boundary k two points that break it: the neighbours change places, become equal."""
    order = Ranking.of(centre).order

    def broken(k: int, equal: bool) -> Logits:
        values = list(centre)
        upper, lower = order[k - 1], order[k]
        values[upper], values[lower] = values[lower], values[lower if equal else upper]
        return tuple(values)

    return [(broken(k, False), broken(k, True)) for k in range(1, len(centre))]


def swaps(centre: Logits) -> st.SearchStrategy[list[Logits]]:
    """Points at each of which one boundary breaks: neighbours change places, or become equal."""
    every = broken_boundaries(centre)

    def points(chosen: list[bool], equal: bool) -> list[Logits]:
        kept = [two[equal] for two, wanted in zip(every, chosen, strict=True) if wanted]
        return kept or [every[0][equal]]

    size = len(every)
    return st.builds(points, st.lists(st.booleans(), min_size=size, max_size=size), st.booleans())


def weak_orders(num_classes: int) -> Iterator[Logits]:
    """Logits for every order of the classes, with every pattern of ties: 13 for 3, 75 for 4."""
    for levels in product(range(num_classes), repeat=num_classes):
        if set(levels) == set(range(max(levels) + 1)):
            yield tuple(map(Fraction, levels))


def untied(centre: Logits) -> Logits:
    """The same ranking with every tie broken, towards the smaller class index."""
    values = list(centre)
    for rank, label in enumerate(Ranking.of(centre).order):
        values[label] += Fraction(len(centre) - rank, 64)
    return tuple(values)


def reversed_between_ties(centre: Logits) -> Logits:
    """The ranking of x with every run of untied neighbours reversed, and no tie.

    The sets above the tied boundaries are as they were, and all other prefixes have changed.
    """
    ranking = Ranking.of(centre)
    runs: list[list[int]] = [[]]
    for rank, label in enumerate(ranking.order):
        if rank in ranking.tied:
            runs.append([])
        runs[-1].append(label)
    values = list(centre)
    for place, label in enumerate(label for run in runs for label in reversed(run)):
        values[label] = Fraction(len(centre) - place)
    return tuple(values)


def points_around(centre: Logits) -> st.SearchStrategy[list[Logits]]:
    """Logits at one to four points x'; whether x itself is among them is left to chance.

    Some keep the ranking of x but not its ties, and some break one boundary only, or all but the
    tied ones: those tell the two orders of the quantifiers apart, and prefixes that may serve from
    prefixes that may not.
    """
    kept = st.sampled_from([untied(centre), reversed_between_ties(centre)])
    point = st.one_of(kept, nearby(centre), logits(len(centre)))
    return st.one_of(st.lists(point, min_size=1, max_size=4), swaps(centre), kept.map(_alone))


def _alone(point: Logits) -> list[Logits]:
    return [point]


@dataclass(frozen=True)
class Scene:
    """A property, the logits at x, and the logits at the points x' of each of its balls."""

    prop: Property
    centre: Logits
    points: Mapping[Ball, list[Logits]]

    def logits_in(self, ball: Ball) -> list[Logits]:
        """The logits at the points of a ball, as ``reference.holds`` asks for them."""
        return self.points[ball]


@st.composite
def scenes(
    draw: st.DrawFn,
    prop: st.SearchStrategy[Property] | None = None,
    *,
    num_classes: int | None = None,
) -> Scene:
    """A scene for any property, or for one drawn from ``prop``, which fits ``num_classes``."""
    count = draw(st.integers(3, 6)) if num_classes is None else num_classes
    chosen = draw(properties(count, covered=False) if prop is None else prop)
    centre = draw(logits(count))
    points = {ball: draw(points_around(centre)) for ball in dict.fromkeys(chosen.balls)}
    return Scene(chosen, centre, points)
