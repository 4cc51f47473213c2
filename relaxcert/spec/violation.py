"""What breaks a property: the negated formula, as solver queries in disjunctive normal form.

The negation of ``Beats(j, i)`` is ``Reaches(i, j)``: ``f_i >= f_j``, not strict. A query asks for
one x' of a ball at which some conjunction of such atoms holds; if there is none, its part of the
property is proved. The two quantifier orders differ in shape:

    uniform     one query for each admissible k; robust when any of them has no answer
    pointwise   one query, "every admissible k is broken at the same x'"

Pointwise, a violation is a set of links ``[a, b]`` in rank coordinates, "rank b reaches rank a",
which breaks every admissible k with ``a < k <= b``. Since ``>=`` is transitive, a conjunction is
needed only if no weaker one follows from it; these are exactly the minimal covers in which no link
begins at the rank at which another ends. For k = 1..K out of C classes (K >= 2) there are

    (C - K) 2^(K - 2)

of them, where multiplying out gives 5.65 million at C = 100, K = 3 instead of 194.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relaxcert.errors import InvalidProperty
from relaxcert.spec.ball import Ball
from relaxcert.spec.formula import AllOf, AnyOf, Beats, Formula, Throughout
from relaxcert.spec.prefix import PrefixProperty
from relaxcert.spec.property import Conjunction, Disjunction, Property
from relaxcert.spec.ranking import Logits, Ranking

MOST_CONJUNCTIONS = 100_000
# Formulas of other shapes are multiplied out and compared pair by pair.
_MOST_MULTIPLIED = 5_000


@dataclass(frozen=True, slots=True, order=True)
class Reaches:
    """Class ``challenger`` scores at least as high as class ``incumbent`` (class indices)."""

    challenger: int
    incumbent: int


Conjuncts = tuple[Reaches, ...]
Dnf = tuple[Conjuncts, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """Is there an x' in ``ball`` at which all atoms of some conjunction hold?

    Attributes:
        ball: where x' is sought.
        ks: the prefix lengths that such an x' breaks; none for properties without prefixes.
        violation: conjunctions, none of which follows from another.
    """

    ball: Ball
    ks: tuple[int, ...]
    violation: Dnf

    def answered_by(self, logits: Logits) -> bool:
        """Whether exact logits at an x' of the ball answer the query with yes."""
        return any(
            all(logits[atom.challenger] >= logits[atom.incumbent] for atom in conjunction)
            for conjunction in self.violation
        )


@dataclass(frozen=True, slots=True)
class EveryPart:
    """Robust when every part is; with no parts: robust."""

    parts: tuple[Queries, ...]


@dataclass(frozen=True, slots=True)
class AnyPart:
    """Robust when some part is; with no parts: broken (by x itself)."""

    parts: tuple[Queries, ...]


Queries = Query | EveryPart | AnyPart


def queries_of(prop: Property, ranking: Ranking, *, most: int = MOST_CONJUNCTIONS) -> Queries:
    """The queries that decide ``prop`` at a point with this ranking.

    Args:
        prop: any property.
        ranking: of the exact logits at x.
        most: the largest number of conjunctions in one query.

    Raises:
        InvalidProperty: a query would need more conjunctions than that.
    """
    if isinstance(prop, Conjunction):
        return EveryPart(tuple(queries_of(part, ranking, most=most) for part in prop.parts))
    if isinstance(prop, Disjunction):
        return AnyPart(tuple(queries_of(part, ranking, most=most) for part in prop.parts))
    if isinstance(prop, PrefixProperty) and type(prop).formula is PrefixProperty.formula:
        return _prefix(prop, ranking, most)
    return _of_formula(prop.formula(ranking), most)


def robust(queries: Queries, answers: Sequence[bool | None]) -> bool | None:
    """Whether the property holds, from one answer a query, in the order of :func:`leaves_of`.

    An answer of True says that the query has a solution, False that it has none, None that nobody
    knows; so does the result: True is robust, False broken, None unknown.
    """
    left = iter(answers)

    def judge(node: Queries) -> bool | None:
        if isinstance(node, Query):
            answer = next(left)
            return None if answer is None else not answer
        found = [judge(part) for part in node.parts]
        decisive = isinstance(node, AnyPart)
        if any(verdict is decisive for verdict in found):
            return decisive
        return None if any(verdict is None for verdict in found) else not decisive

    return judge(queries)


def leaves_of(queries: Queries) -> Iterator[Query]:
    """All queries of the tree, from left to right."""
    if isinstance(queries, Query):
        yield queries
    else:
        for part in queries.parts:
            yield from leaves_of(part)


def _prefix(prop: PrefixProperty, ranking: Ranking, most: int) -> Queries:
    ks = prop.admissible(ranking)
    if prop.quantifier == "pointwise" and ks:
        return Query(prop.ball, ks, covers(ranking, ks, most=most))
    return AnyPart(tuple(Query(prop.ball, (k,), covers(ranking, (k,), most=most)) for k in ks))


def covers(ranking: Ranking, ks: Sequence[int], *, most: int = MOST_CONJUNCTIONS) -> Dnf:
    """The irredundant violation of "some F^k of ``ks`` is unchanged", ``ks`` ascending.

    Raises:
        InvalidProperty: there are more than ``most`` conjunctions.
    """
    found: list[Conjuncts] = []
    for links in _chains(tuple(ks), ranking.num_classes, ()):
        if len(found) == most:
            raise InvalidProperty(
                f"the pointwise violation for k in {list(ks)} of {ranking.num_classes} classes has "
                f"more than {most} conjunctions: use quantifier='uniform', or a smaller k."
            )
        order = ranking.order
        found.append(tuple(Reaches(order[last], order[first]) for first, last in links))
    return tuple(found)


Links = tuple[tuple[int, int], ...]


def _chains(ks: tuple[int, ...], classes: int, links: Links) -> Iterator[Links]:
    """All minimal covers of ``ks`` that begin with ``links``, in order of their ranks."""
    covered = links[-1][1] if links else 0
    missing = [k for k in ks if k > covered]
    if not missing:
        yield links
        return
    ends = {last for _, last in links}
    for first in range(_least_start(ks, links), missing[0]):
        if first in ends:
            continue
        for last in range(missing[0], classes):
            # What the links before begin at cannot be an end: ends lie beyond all begins so far.
            yield from _chains(ks, classes, (*links, (first, last)))


def _least_start(ks: tuple[int, ...], links: Links) -> int:
    """The lowest rank at which the next link may begin, so that the last one stays needed."""
    if not links:
        return 0
    *before, (begin, _) = links
    # The last link alone must cover some k: beyond the end before it, up to the next begin.
    alone = min(k for k in ks if k > (before[-1][1] if before else 0))
    return max(alone, begin + 1)


def _of_formula(formula: Formula, most: int) -> Queries:
    match formula:
        case Throughout(ball, body):
            return Query(ball, (), tuple(tuple(sorted(c)) for c in _negated(body, most)))
        case AllOf(parts):
            return EveryPart(tuple(_of_formula(part, most) for part in parts))
        case AnyOf(parts):
            return AnyPart(tuple(_of_formula(part, most) for part in parts))
        case Beats():
            raise InvalidProperty("Beats needs a Throughout around it to be asked about a ball.")


def _negated(body: Formula, most: int) -> list[frozenset[Reaches]]:
    """DNF of the negation of a formula over ``Beats``, by multiplying out."""
    match body:
        case Beats(winner, loser):
            return [frozenset({Reaches(loser, winner)})]
        case AllOf(parts):
            return _irredundant([c for part in parts for c in _negated(part, most)], most)
        case AnyOf(parts):
            result = [frozenset[Reaches]()]
            for part in parts:
                factor = _negated(part, most)
                _check_number(len(result) * len(factor), _MOST_MULTIPLIED)
                result = _irredundant([one | other for one in result for other in factor], most)
            return result
        case Throughout():
            raise InvalidProperty("a Throughout inside a Throughout has no meaning.")


def _irredundant(conjunctions: list[frozenset[Reaches]], most: int) -> list[frozenset[Reaches]]:
    """Drop whatever holds a smaller conjunction."""
    _check_number(len(conjunctions), most)
    lengths = {len(conjunction) for conjunction in conjunctions}
    if len(lengths) <= 1:  # none holds another
        return sorted(set(conjunctions), key=sorted)
    kept: list[frozenset[Reaches]] = []
    for conjunction in sorted(set(conjunctions), key=lambda c: (len(c), sorted(c))):
        if not any(smaller <= conjunction for smaller in kept):
            kept.append(conjunction)
    return kept


def _check_number(conjunctions: int, most: int) -> None:
    if conjunctions > most:
        raise InvalidProperty(
            f"the violation takes {conjunctions} conjunctions, more than {most}: state the "
            "property with fewer alternatives."
        )
