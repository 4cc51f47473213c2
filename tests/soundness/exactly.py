"""A certificate refuted in exact rational arithmetic, and what relaxcert says of the same point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from relaxcert.heads import GloRoNet
from relaxcert.spec import Local
from tests.lipschitz import exact

Vector = list[Fraction]
Function = Callable[[Vector], Vector]


@dataclass(frozen=True)
class Refutation:
    """An x' of the l2 ball of radius ``eps`` around ``point`` where the prediction differs.

    ``function`` is the network in exact arithmetic; by default that of plain chains.
    """

    backbone: nn.Module
    point: Tensor
    other: Vector
    eps: Fraction
    function: Function | None = None

    def logits(self, inputs: Sequence[Fraction]) -> Vector:
        if self.function is not None:
            return self.function(list(inputs))
        assert isinstance(self.backbone, nn.Sequential)
        return exact.forward(self.backbone, list(inputs))

    def is_exact(self) -> bool:
        """Strictly: one class is highest at x, another at x', and x' lies in the ball."""
        here = exact.exact_vector(self.point)
        distance = sum((a - b) ** 2 for a, b in zip(here, self.other, strict=True))
        at_point, at_other = self.logits(here), self.logits(self.other)
        label = at_point.index(max(at_point))
        unique = at_point.count(max(at_point)) == 1
        return unique and distance <= self.eps**2 and max(at_other) > at_other[label]


def certified(backbone: nn.Module, point: Tensor, eps: Fraction) -> bool:
    """Whether relaxcert certifies the prediction on the l2 ball of this exact radius."""
    return bool(GloRoNet(backbone, Local(eps=eps)).certify(point[None]).certified)


def radius(backbone: nn.Module, point: Tensor) -> float:
    """The largest l2 radius that relaxcert proves."""
    return float(GloRoNet(backbone, Local(eps=1)).certify(point[None]).radius)


def sound_and_not_vacuous(refutation: Refutation) -> list[str]:
    """What is wrong with relaxcert at this point; nothing, if it is right.

    The radius at which a flip exists is at least the true one, so a proved radius within 1 % of
    it is within 1 % of the true one.
    """
    wrong: list[str] = []
    if not refutation.is_exact():
        wrong.append("the counterexample is none")
    if certified(refutation.backbone, refutation.point, refutation.eps):
        wrong.append(f"certified at {float(refutation.eps)}, where the prediction flips")
    proved = radius(refutation.backbone, refutation.point)
    if proved > refutation.eps:
        wrong.append(f"radius {proved} beyond the flip at {float(refutation.eps)}")
    inside = refutation.eps * Fraction(99, 100)
    if proved < inside or not certified(refutation.backbone, refutation.point, inside):
        wrong.append(f"vacuous: radius {proved}, flip at {float(refutation.eps)}")
    return wrong


def moved(point: Tensor, direction: Tensor, length: float) -> Vector:
    """point - length * direction, exactly."""
    step = Fraction(length)
    return [
        Fraction(p) - step * Fraction(d)
        for p, d in zip(point.double().tolist(), direction.double().tolist(), strict=True)
    ]


def length_up(direction: Tensor, length: float) -> Fraction:
    """A rational at or a hair above length * ||direction||."""
    squares = sum(Fraction(d) ** 2 for d in direction.double().tolist())
    guess = Fraction(float(torch.linalg.vector_norm(direction.double())))
    while guess**2 < squares:
        guess += Fraction(1, 2**60)
    return Fraction(length) * guess
