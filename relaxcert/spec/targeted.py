"""Targeted safety: the prediction may move, but only to classes that are allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relaxcert.errors import InvalidProperty, VacuousProperty
from relaxcert.spec.affinity import AffinitySets, ClassLike, resolve_class
from relaxcert.spec.ball import Ball, EpsLike, Norm
from relaxcert.spec.formula import AllOf, AnyOf, Beats, Formula, Throughout
from relaxcert.spec.prefix import check_written_for
from relaxcert.spec.property import Property, with_ball
from relaxcert.spec.ranking import Ranking


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Targeted(Property):
    """F(x') lies in ``allowed[F(x)]`` for all x' in the ball (DeepSafe's targeted-safe region).

    Strictly weaker than affinity robustness with sets inside the allowed ones. Each class must be
    allowed for itself, and may not allow every class. Where the highest logit at x is tied there is
    no prediction to allow anything for, and the property does not hold.

    Args:
        allowed: for each class c, the classes that may be predicted around a point of class c.
        eps: radius, in units of the network's input; exact.
        norm: norm of the input space.
    """

    allowed: tuple[tuple[int, ...], ...]
    ball: Ball

    def __init__(
        self, allowed: Sequence[Iterable[int]], *, eps: EpsLike, norm: Norm = "l2"
    ) -> None:
        object.__setattr__(self, "allowed", _checked_allowed(allowed))
        object.__setattr__(self, "ball", Ball.of(eps, norm))

    @classmethod
    def neighbours(
        cls,
        order: Sequence[ClassLike],
        *,
        eps: EpsLike,
        norm: Norm = "l2",
        degrees: int = 1,
        class_names: Sequence[str] | None = None,
    ) -> Targeted:
        """Allow up to ``degrees`` steps either way along ``order``, a list of every class once."""
        if isinstance(degrees, bool) or degrees < 1:
            raise InvalidProperty(f"degrees={degrees!r} must be a whole number of at least 1.")
        labels = [resolve_class(label, len(order), class_names) for label in order]
        if len(set(labels)) != len(labels):
            raise InvalidProperty(f"order={list(order)!r} must name each class exactly once.")
        allowed: list[list[int]] = [[] for _ in labels]
        for place, label in enumerate(labels):
            allowed[label] = labels[max(0, place - degrees) : place + degrees + 1]
        return cls(allowed, eps=eps, norm=norm)

    @classmethod
    def within(cls, sets: AffinitySets, *, eps: EpsLike, norm: Norm = "l2") -> Targeted:
        """Allow for each class whatever shares an affinity set with it.

        Affinity robustness with ``sets`` implies this property wherever the highest logit at x is
        not tied (where it is, no class is predicted, and this property does not hold).
        """
        allowed = [
            {label, *(other for members in sets.sets_of(label) for other in members)}
            for label in range(sets.num_classes)
        ]
        return cls(allowed, eps=eps, norm=norm)

    @property
    def balls(self) -> tuple[Ball, ...]:
        """The one ball of the property."""
        return (self.ball,)

    def with_eps(self, eps: EpsLike) -> Property:
        """The same property on a ball of radius ``eps`` in the same norm."""
        return with_ball(self, Ball.of(eps, self.ball.norm))

    def check(self, num_classes: int) -> None:
        """Check against a number of classes; see :meth:`Property.check`."""
        check_written_for(len(self.allowed), num_classes, "the allowed classes")

    def formula(self, ranking: Ranking) -> Formula:
        """What must hold at a point; see :meth:`Property.formula`."""
        if 1 in ranking.tied:
            return AnyOf(())
        allowed = self.allowed[ranking.order[0]]
        forbidden = [i for i in range(ranking.num_classes) if i not in allowed]
        # Whoever is forbidden is outscored by somebody allowed, who may differ from x' to x'.
        clauses = tuple(AnyOf(tuple(Beats(j, i) for j in allowed)) for i in forbidden)
        return Throughout(self.ball, AllOf(clauses))

    def __repr__(self) -> str:
        return f"Targeted({[list(s) for s in self.allowed]!r}, {self.ball.arguments()})"


def _checked_allowed(allowed: Sequence[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    count = len(allowed)
    if count < 2:
        raise InvalidProperty(f"allowed has {count} entries, expected one a class for at least 2.")
    checked: list[tuple[int, ...]] = []
    for label, members in enumerate(allowed):
        targets = tuple(sorted({resolve_class(member, count, None) for member in members}))
        if label not in targets:
            raise InvalidProperty(
                f"allowed[{label}]={list(targets)} must hold {label} itself: the prediction at x "
                "is one of the predictions in the ball."
            )
        if len(targets) == count:
            raise VacuousProperty(
                f"allowed[{label}] holds all {count} classes: every prediction would be permitted."
            )
        checked.append(targets)
    return tuple(checked)
