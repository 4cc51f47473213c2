"""Properties of the top of the ranking: Local, TopK, RelaxedTopK and Affinity.

All four say "one F^k, out of those that may serve, is unchanged"; they differ only in *which
prefix lengths k may serve, given the ranking*. That is the whole interface: a subclass of
:class:`PrefixProperty` gives ``lengths`` and, if the ranking matters, ``affinity_sets``; heads,
queries, files and tests follow from these two.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from relaxcert.errors import InvalidProperty, UncoveredClassWarning, VacuousProperty
from relaxcert.spec.affinity import AffinitySets
from relaxcert.spec.ball import Ball, EpsLike, Norm
from relaxcert.spec.formula import AnyOf, Formula, Throughout, prefix_invariant
from relaxcert.spec.property import Property, with_ball
from relaxcert.spec.ranking import Ranking

Quantifier = Literal["uniform", "pointwise"]


class PrefixProperty(Property):
    """A property that holds when one admissible F^k is unchanged on the ball.

    ``quantifier="uniform"``: there is one k for all x'; Theorems 1 and 2 prove this, and only this
    yields a set. ``quantifier="pointwise"``: for each x' there is a k; weaker, Definitions 3 and 4
    to the letter.
    """

    __slots__ = ()

    ball: Ball

    @property
    def quantifier(self) -> Quantifier:
        """Whether one k serves the whole ball, or each x' has its own."""
        return "uniform"

    @property
    def balls(self) -> tuple[Ball, ...]:
        """The one ball of the property."""
        return (self.ball,)

    def with_eps(self, eps: EpsLike) -> Property:
        """The same property on a ball of radius ``eps`` in the same norm."""
        return with_ball(self, Ball.of(eps, self.ball.norm))

    @abstractmethod
    def lengths(self) -> Sequence[int]:
        """The prefix lengths k that may serve, in ascending order."""

    @property
    def affinity_sets(self) -> AffinitySets | None:
        """If given, k may serve only where the first k classes lie inside one of these sets."""
        return None

    def admissible(self, ranking: Ranking) -> tuple[int, ...]:
        """The prefix lengths that may serve at a point with this ranking (ties never may)."""
        sets = self.affinity_sets
        return tuple(
            k
            for k in self.lengths()
            if k < ranking.num_classes
            and k not in ranking.tied
            and (sets is None or sets.admits(ranking.top(k)))
        )

    def check(self, num_classes: int) -> None:
        """Check against a number of classes; see :meth:`Property.check`."""
        lengths = list(self.lengths())
        if not lengths or any(isinstance(k, bool) or k < 1 for k in lengths):
            raise InvalidProperty(
                f"{type(self).__name__}.lengths() gives {lengths}, expected prefix lengths of at "
                "least 1, in ascending order, and at least one."
            )
        if self.affinity_sets is not None:
            _check_sets(self.affinity_sets, num_classes)
        longest = max(lengths)
        if longest >= num_classes:
            raise VacuousProperty(
                f"k={longest} must be smaller than the number of classes ({num_classes}): the top "
                f"{num_classes} of {num_classes} classes never change, so the property would hold "
                f"everywhere; use k <= {num_classes - 1}."
            )

    def formula(self, ranking: Ranking) -> Formula:
        """What must hold at a point; see :meth:`Property.formula`."""
        admissible = self.admissible(ranking)
        if self.quantifier == "uniform":
            return AnyOf(
                tuple(Throughout(self.ball, prefix_invariant(ranking, k)) for k in admissible)
            )
        return Throughout(self.ball, AnyOf(tuple(prefix_invariant(ranking, k) for k in admissible)))


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Local(PrefixProperty):
    """Local robustness: the prediction is the same on the whole ball (Definition 1).

    Args:
        eps: radius, in units of the network's input; exact (see :func:`parse_eps`).
        norm: norm of the input space, ``"l2"``, ``"linf"`` or ``"l1"``.
    """

    ball: Ball

    def __init__(self, *, eps: EpsLike, norm: Norm = "l2") -> None:
        object.__setattr__(self, "ball", Ball.of(eps, norm))

    def lengths(self) -> Sequence[int]:
        """The prefix lengths k that may serve."""
        return (1,)

    def __repr__(self) -> str:
        return f"Local({self.ball.arguments()})"


@dataclass(frozen=True, slots=True, init=False, repr=False)
class TopK(PrefixProperty):
    """Top-k robustness: the set of the k highest classes is unchanged (Definition 2).

    Not a relaxation of :class:`Local`: a point may be top-1 robust and not top-2 robust (Figure 1).
    """

    k: int
    ball: Ball

    def __init__(self, k: int, *, eps: EpsLike, norm: Norm = "l2") -> None:
        object.__setattr__(self, "k", _checked_k(k))
        object.__setattr__(self, "ball", Ball.of(eps, norm))

    def lengths(self) -> Sequence[int]:
        """The prefix lengths k that may serve."""
        return (self.k,)

    def __repr__(self) -> str:
        return f"TopK(k={self.k}, {self.ball.arguments()})"


@dataclass(frozen=True, slots=True, init=False, repr=False)
class RelaxedTopK(PrefixProperty):
    """Relaxed top-K (RTK) robustness: one of F^1..F^k is unchanged (Definition 3, Theorem 1)."""

    k: int
    ball: Ball
    order: Quantifier

    def __init__(
        self, k: int, *, eps: EpsLike, norm: Norm = "l2", quantifier: Quantifier = "uniform"
    ) -> None:
        object.__setattr__(self, "k", _checked_k(k))
        object.__setattr__(self, "ball", Ball.of(eps, norm))
        object.__setattr__(self, "order", _checked_quantifier(quantifier))

    @property
    def quantifier(self) -> Quantifier:
        """Whether one k serves the whole ball, or each x' has its own."""
        return self.order

    def lengths(self) -> Sequence[int]:
        """The prefix lengths k that may serve."""
        return range(1, self.k + 1)

    def __repr__(self) -> str:
        return f"RelaxedTopK(k={self.k}, {self.ball.arguments()}{_quantifier_argument(self)})"


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Affinity(PrefixProperty):
    """Affinity robustness: an F^k inside an affinity set is unchanged (Definition 4, Theorem 2).

    Args:
        sets: the affinity sets.
        eps: radius, in units of the network's input; exact.
        norm: norm of the input space.
        quantifier: ``"uniform"`` or ``"pointwise"``.
    """

    sets: AffinitySets
    ball: Ball
    order: Quantifier

    def __init__(
        self,
        sets: AffinitySets,
        *,
        eps: EpsLike,
        norm: Norm = "l2",
        quantifier: Quantifier = "uniform",
    ) -> None:
        object.__setattr__(self, "sets", _checked_sets(sets))
        object.__setattr__(self, "ball", Ball.of(eps, norm))
        object.__setattr__(self, "order", _checked_quantifier(quantifier))

    @property
    def quantifier(self) -> Quantifier:
        """Whether one k serves the whole ball, or each x' has its own."""
        return self.order

    @property
    def affinity_sets(self) -> AffinitySets:
        """The sets that an admitted prefix must lie in."""
        return self.sets

    def lengths(self) -> Sequence[int]:
        """The prefix lengths k that may serve."""
        return range(1, self.sets.largest + 1)

    def __repr__(self) -> str:
        return f"Affinity({self.sets!r}, {self.ball.arguments()}{_quantifier_argument(self)})"


def _named(sets: AffinitySets, labels: Sequence[int], limit: int = 10) -> str:
    more = f" and {len(labels) - limit} more" if len(labels) > limit else ""
    return ", ".join(sets.name(label) for label in labels[:limit]) + more


def check_written_for(expected: int, num_classes: int, what: str) -> None:
    """Raise InvalidProperty if something made for ``expected`` classes meets another number."""
    if expected != num_classes:
        raise InvalidProperty(
            f"{what} were written for {expected} classes, but the network has {num_classes}: "
            "use a property and a network with the same classes."
        )


def _check_sets(sets: AffinitySets, num_classes: int) -> None:
    check_written_for(sets.num_classes, num_classes, "the affinity sets")
    if sets.uncovered:
        warnings.warn(
            f"classes in no affinity set: {_named(sets, sets.uncovered)}. Points predicted as one "
            "of them can never be certified; give each a set of its own if that is not meant.",
            UncoveredClassWarning,
            stacklevel=4,
        )


def _checked_sets(sets: object) -> AffinitySets:
    if not isinstance(sets, AffinitySets):
        raise InvalidProperty(
            f"sets={sets!r} must be AffinitySets: wrap the lists as "
            "AffinitySets([[0, 1], [2]], num_classes=3)."
        )
    return sets


def _checked_k(k: object) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InvalidProperty(f"k={k!r} must be a whole number of at least 1.")
    return k


def _checked_quantifier(quantifier: Quantifier) -> Quantifier:
    if quantifier not in get_args(Quantifier):
        raise InvalidProperty(f"quantifier={quantifier!r} must be 'uniform' or 'pointwise'.")
    return quantifier


def _quantifier_argument(prop: PrefixProperty) -> str:
    return "" if prop.quantifier == "uniform" else f", quantifier={prop.quantifier!r}"
