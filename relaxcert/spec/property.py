"""What a property is, and how properties are composed.

A property is a frozen value. It says what must hold around a point, as a formula over the ranking
of the classes there; every backend (head, solver, file, test) is compiled from that.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from relaxcert.errors import InvalidProperty
from relaxcert.spec.ball import Ball, EpsLike
from relaxcert.spec.formula import AllOf, AnyOf, Formula
from relaxcert.spec.ranking import Ranking

SingleBall = TypeVar("SingleBall", bound="Property")


class Property(ABC):
    """What must hold around a point. Compose with ``&`` (both) and ``|`` (at least one)."""

    __slots__ = ()

    @property
    @abstractmethod
    def balls(self) -> tuple[Ball, ...]:
        """The balls that the property speaks of, one a part."""

    @property
    def parts(self) -> tuple[Property, ...]:
        """The properties that this one is composed of; itself alone if it is not composed."""
        return (self,)

    @abstractmethod
    def with_eps(self, eps: EpsLike) -> Property:
        """The same property with every ball of radius ``eps``, for curves against the radius."""

    @abstractmethod
    def check(self, num_classes: int) -> None:
        """Check that the property makes sense for networks with ``num_classes`` outputs.

        Raises:
            VacuousProperty: it would hold for every network, or for none.
            InvalidProperty: it was written for another number of classes.

        Warns:
            UncoveredClassWarning: a class lies in no affinity set.
        """

    @abstractmethod
    def formula(self, ranking: Ranking) -> Formula:
        """What must hold around a point whose classes are ranked like this."""

    def __and__(self, other: object) -> Property:
        return _compose(Conjunction, self, other)

    def __or__(self, other: object) -> Property:
        return _compose(Disjunction, self, other)

    def __invert__(self) -> NoReturn:
        raise TypeError(
            "~property is not supported: certificates are lower bounds, and the negation of a "
            "bound proves nothing. State what must hold instead."
        )

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a property has no truth value of its own, only at a point of a network: use '&' and "
            "'|' (not 'and', 'or') to compose, and GloRoNet(backbone, property).certify(x) to "
            "decide."
        )


@dataclass(frozen=True, slots=True, init=False, repr=False, eq=False)
class _Composition(Property):
    """Several properties joined by one connective; nested ones of a kind are flattened."""

    members: tuple[Property, ...]

    def __init__(self, *members: Property) -> None:
        flat: list[Property] = []
        for member in members:
            flat.extend(member.parts if type(member) is type(self) else (member,))
        unique = tuple(dict.fromkeys(flat))
        if len(unique) < 1:
            raise InvalidProperty(f"{type(self).__name__}() needs at least one property.")
        object.__setattr__(self, "members", unique)

    @property
    def parts(self) -> tuple[Property, ...]:
        return self.members

    @property
    def balls(self) -> tuple[Ball, ...]:
        return tuple(ball for member in self.members for ball in member.balls)

    def with_eps(self, eps: EpsLike) -> Property:
        return type(self)(*(member.with_eps(eps) for member in self.members))

    def check(self, num_classes: int) -> None:
        for member in self.members:
            member.check(num_classes)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return frozenset(self.members) == frozenset(other.members)

    def __hash__(self) -> int:
        return hash((type(self).__name__, frozenset(self.members)))


class Conjunction(_Composition):
    """All parts hold, each on its own ball: ``a & b``."""

    __slots__ = ()

    def formula(self, ranking: Ranking) -> Formula:
        """What must hold at a point; see :meth:`Property.formula`."""
        return AllOf(tuple(member.formula(ranking) for member in self.members))

    def __repr__(self) -> str:
        return _joined(self, " & ")


class Disjunction(_Composition):
    """At least one part holds, each on its own ball: ``a | b``."""

    __slots__ = ()

    def formula(self, ranking: Ranking) -> Formula:
        """What must hold at a point; see :meth:`Property.formula`."""
        return AnyOf(tuple(member.formula(ranking) for member in self.members))

    def __repr__(self) -> str:
        return _joined(self, " | ")


def _joined(composed: _Composition, connective: str) -> str:
    if len(composed.members) == 1:  # no connective would show which composition it is
        return f"{type(composed).__name__}({composed.members[0]!r})"
    return "(" + connective.join(map(repr, composed.members)) + ")"


def with_ball(prop: SingleBall, ball: Ball) -> SingleBall:
    """A copy of a frozen property that has its one ball in an attribute ``ball``."""
    clone = copy.copy(prop)
    object.__setattr__(clone, "ball", ball)
    return clone


def _compose(
    kind: type[Conjunction] | type[Disjunction], left: Property, right: object
) -> Property:
    if not isinstance(right, Property):
        raise TypeError(
            f"cannot compose a property with {type(right).__name__}: both sides of '&' and '|' "
            "must be properties."
        )
    whole = kind(left, right)
    return whole.members[0] if len(whole.members) == 1 else whole
