"""What a property says at one point, as a monotone formula.

Everything is built from one atom: ``Beats(j, i)``, "class j strictly outscores class i". There is
no negation, so AND lowers to min, OR to max, and a lower bound on the atoms is a lower bound on
the formula. ``Throughout(ball, body)`` says that the body holds at every x' in the ball; where it
stands makes the difference between the two quantifier orders:

    uniform     AnyOf(Throughout(ball, P_k) for k)      one k serves the whole ball
    pointwise   Throughout(ball, AnyOf(P_k for k))      each x' has a k of its own
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import inf

from relaxcert.errors import InvalidProperty
from relaxcert.spec.ball import Ball
from relaxcert.spec.ranking import Logits, Ranking


@dataclass(frozen=True, slots=True)
class Beats:
    """Class ``winner`` strictly outscores class ``loser`` (class indices)."""

    winner: int
    loser: int


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds; with no parts: true."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Some part holds; with no parts: false (a property with no admissible prefix)."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Throughout:
    """``body`` holds at every point of ``ball`` around the reference point."""

    ball: Ball
    body: Formula


Formula = Beats | AllOf | AnyOf | Throughout
Link = Callable[[Ball, int, int], Fraction | float]


def prefix_invariant(ranking: Ranking, k: int) -> AllOf:
    """P_k: every class of rank below k beats every class of rank k or more."""
    inside, outside = ranking.order[:k], ranking.order[k:]
    return AllOf(tuple(Beats(j, i) for j in inside for i in outside))


def holds_at(body: Formula, logits: Logits) -> bool:
    """Whether a formula without ``Throughout`` is true for the exact logits of one point x'."""
    match body:
        case Beats(winner, loser):
            return logits[winner] > logits[loser]
        case AllOf(parts):
            return all(holds_at(part, logits) for part in parts)
        case AnyOf(parts):
            return any(holds_at(part, logits) for part in parts)
        case Throughout():
            raise InvalidProperty("a Throughout inside a Throughout has no meaning at one point.")


def holds_on(formula: Formula, logits_in: Callable[[Ball], Iterable[Logits]]) -> bool:
    """Whether the formula is true when ``logits_in(ball)`` lists the logits of each ball's x'."""
    match formula:
        case Throughout(ball, body):
            return all(holds_at(body, logits) for logits in logits_in(ball))
        case AllOf(parts):
            return all(holds_on(part, logits_in) for part in parts)
        case AnyOf(parts):
            return any(holds_on(part, logits_in) for part in parts)
        case Beats():
            raise InvalidProperty("Beats needs a Throughout around it to be judged on a ball.")


def lower_bound(formula: Formula, link: Link) -> Fraction | float:
    """A lower bound on the margin of the formula, from lower bounds on its atoms.

    ``link(ball, j, i)`` is a lower bound of f_j - f_i over the ball. A positive result proves the
    formula. Slow and obvious: inside ``Throughout`` the body is multiplied out to a conjunction of
    clauses, each of which needs one atom that holds on the whole ball.
    """
    match formula:
        case Throughout(ball, body):
            bounds = [
                max((link(ball, atom.winner, atom.loser) for atom in clause), default=-inf)
                for clause in _clauses(body)
            ]
            return min(bounds, default=inf)
        case AllOf(parts):
            return min((lower_bound(part, link) for part in parts), default=inf)
        case AnyOf(parts):
            return max((lower_bound(part, link) for part in parts), default=-inf)
        case Beats():
            raise InvalidProperty("Beats needs a Throughout around it to have a bound on a ball.")


def _clauses(body: Formula) -> list[frozenset[Beats]]:
    """Conjunctive normal form of a formula over ``Beats``; exponential, for small cases."""
    match body:
        case Beats():
            return [frozenset({body})]
        case AllOf(parts):
            return [clause for part in parts for clause in _clauses(part)]
        case AnyOf(parts):
            choices = product(*(_clauses(part) for part in parts))
            return [frozenset[Beats]().union(*choice) for choice in choices]
        case Throughout():
            raise InvalidProperty("a Throughout inside a Throughout has no meaning.")
