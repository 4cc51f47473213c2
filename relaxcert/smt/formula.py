"""What a solver is asked for: a monotone formula over linear constraints on the logits.

    atom      weights . logits + constant >= 0         (never strict: ties count as violations)
    Every     all parts hold;   Some: some part holds

The violation of a property is the negation of its formula (:mod:`relaxcert.spec.formula`): Beats
(j over i) becomes f_i - f_j >= 0, AND becomes Some, OR becomes Every. Robustness files with other
output constraints (VNN-LIB) use the same atoms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from relaxcert.errors import InvalidProperty
from relaxcert.spec.formula import AllOf, AnyOf, Beats, Formula, Throughout


@dataclass(frozen=True, slots=True)
class Atom:
    """``sum of weights[c] * logits[c] + constant >= 0``; ``weights`` pairs (class, weight)."""

    weights: tuple[tuple[int, Fraction], ...]
    constant: Fraction = Fraction(0)

    def value(self, logits: Sequence[Fraction]) -> Fraction:
        """The left-hand side at exact logits."""
        return sum((weight * logits[label] for label, weight in self.weights), self.constant)

    def spread(self, doubt: Sequence[Fraction]) -> Fraction:
        """How far the value moves at most where each logit moves by its ``doubt``."""
        return sum((abs(weight) * doubt[label] for label, weight in self.weights), Fraction(0))


@dataclass(frozen=True, slots=True)
class Every:
    """All parts hold; with no parts: true."""

    parts: tuple[Constraint, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """Some part holds; with no parts: false."""

    parts: tuple[Constraint, ...]


Constraint = Atom | Every | Some


def reaches(low: int, high: int) -> Atom:
    """f_low - f_high >= 0: class ``low`` reaches class ``high``."""
    return Atom(((low, Fraction(1)), (high, Fraction(-1))))


def violation_of(body: Formula) -> Constraint:
    """The negation of a formula without ``Throughout``: what an x' must fulfil to break it."""
    match body:
        case Beats(winner, loser):
            return reaches(loser, winner)
        case AllOf(parts):
            return some(violation_of(part) for part in parts)
        case AnyOf(parts):
            return every(violation_of(part) for part in parts)
        case Throughout():
            raise InvalidProperty("a Throughout inside a Throughout has no meaning.")


def some(parts: Iterator[Constraint] | Sequence[Constraint]) -> Constraint:
    """Some of the parts, flattened, without repetitions."""
    flat: dict[Constraint, None] = {}
    for part in parts:
        flat.update(dict.fromkeys(part.parts if isinstance(part, Some) else (part,)))
    return next(iter(flat)) if len(flat) == 1 else Some(tuple(flat))


def every(parts: Iterator[Constraint] | Sequence[Constraint]) -> Constraint:
    """Every one of the parts, flattened, without repetitions."""
    flat: dict[Constraint, None] = {}
    for part in parts:
        flat.update(dict.fromkeys(part.parts if isinstance(part, Every) else (part,)))
    return next(iter(flat)) if len(flat) == 1 else Every(tuple(flat))


def atoms_of(constraint: Constraint) -> tuple[Atom, ...]:
    """The different atoms, in order of appearance."""
    found: dict[Atom, None] = {}

    def visit(part: Constraint) -> None:
        if isinstance(part, Atom):
            found[part] = None
        else:
            for child in part.parts:
                visit(child)

    visit(constraint)
    return tuple(found)


def holds(
    constraint: Constraint, logits: Sequence[Fraction], doubt: Sequence[Fraction] | None = None
) -> bool:
    """Whether the constraint is true at exact logits, wherever within ``doubt`` they really are.

    Constraints are monotone in their atoms, so it is enough that the atoms hold surely.
    """
    match constraint:
        case Atom():
            spread = Fraction(0) if doubt is None else constraint.spread(doubt)
            return constraint.value(logits) - spread >= 0
        case Every(parts):
            return all(holds(part, logits, doubt) for part in parts)
        case Some(parts):
            return any(holds(part, logits, doubt) for part in parts)


def relaxed(constraint: Constraint, doubt: Sequence[Fraction]) -> Constraint:
    """What holds of logits wherever the constraint holds of others within ``doubt`` of them."""
    if not any(doubt):
        return constraint
    match constraint:
        case Atom(weights, constant):
            return Atom(weights, constant + constraint.spread(doubt))
        case Every(parts):
            return Every(tuple(relaxed(part, doubt) for part in parts))
        case Some(parts):
            return Some(tuple(relaxed(part, doubt) for part in parts))


def without(constraint: Constraint, impossible: frozenset[Atom] | set[Atom]) -> Constraint | None:
    """The constraint with atoms struck out that cannot hold; None if nothing can hold then."""
    match constraint:
        case Atom():
            return None if constraint in impossible else constraint
        case Every(parts):
            left = [without(part, impossible) for part in parts]
            kept = [part for part in left if part is not None]
            return every(kept) if len(kept) == len(left) else None
        case Some(parts):
            left = [without(part, impossible) for part in parts]
            kept = [part for part in left if part is not None]
            return some(kept) if kept else None
