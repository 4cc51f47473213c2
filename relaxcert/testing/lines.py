"""What a network does along a line, exactly: a complete judge of properties on one input.

On x + t d every logit of a ReLU or MinMax network is piecewise linear in t. All kinks of its
layers and all crossings of its logits are roots of linear functions, hence exact. Between two
neighbouring ones the order of the logits does not change, so finitely many points stand for all:

    critical points  t_0 < t_1 < ... and one point between each two of them.

A network with one input is thereby *decided*; for others a line finds violations, never proofs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, pairwise

from torch import nn

from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.spec.ball import Ball
from relaxcert.spec.property import Property
from relaxcert.spec.reference import holds
from relaxcert.testing.exact import affine, forward, in_ball, leaves, longest_step, scales

Vector = Sequence[Fraction]
Linear = tuple[Fraction, Fraction]  # offset + t slope


@dataclass(frozen=True)
class Piece:
    """On low <= t <= high the values are offset + t slope, one pair a value."""

    low: Fraction
    high: Fraction
    values: tuple[Linear, ...]

    @property
    def middle(self) -> Fraction:
        """A point inside."""
        return (self.low + self.high) / 2

    def at(self, t: Fraction) -> list[Fraction]:
        """The values at t."""
        return [offset + t * slope for offset, slope in self.values]

    def split(self, functions: Sequence[Linear]) -> list[Piece]:
        """The piece cut at every root of the given linear functions that lies inside."""
        roots = {-offset / slope for offset, slope in functions if slope}
        inside = sorted(root for root in roots if self.low < root < self.high)
        ends = [self.low, *inside, self.high]
        return [Piece(low, high, self.values) for low, high in pairwise(ends)]


def pieces_on_line(
    backbone: nn.Module, start: Vector, direction: Vector, low: Fraction, high: Fraction
) -> list[Piece]:
    """The linear pieces of the logits of ``start + t direction`` for low <= t <= high.

    Raises:
        UnsupportedLayer: a layer that has no exact evaluation.
    """
    pieces = [Piece(low, high, tuple(zip(start, direction, strict=True)))]
    for layer in leaves(backbone):
        pieces = [after for piece in pieces for after in _through(layer, piece)]
    return pieces


def _through(layer: nn.Module, piece: Piece) -> list[Piece]:
    match layer:
        case nn.Linear():
            offsets = affine(layer, [offset for offset, _ in piece.values])
            slopes = affine(layer, [slope for _, slope in piece.values], bias=False)
            return [Piece(piece.low, piece.high, tuple(zip(offsets, slopes, strict=True)))]
        case InputNormalisation():
            constants = scales(layer, len(piece.values))
            values = tuple(
                ((offset - mean) / std, slope / std)
                for (offset, slope), (mean, std) in zip(piece.values, constants, strict=True)
            )
            return [Piece(piece.low, piece.high, values)]
        case nn.ReLU():
            return [_rectified(part) for part in piece.split(piece.values)]
        case MinMax():
            pairs = zip(piece.values[::2], piece.values[1::2], strict=True)
            differences = [_minus(left, right) for left, right in pairs]
            return [_sorted(part) for part in piece.split(differences)]
        case _:
            return [piece]


def _minus(left: Linear, right: Linear) -> Linear:
    return left[0] - right[0], left[1] - right[1]


def _rectified(piece: Piece) -> Piece:
    """ReLU on a piece on which no value changes its sign."""
    signs = piece.at(piece.middle)
    zero = (Fraction(0), Fraction(0))
    values = tuple(v if s > 0 else zero for v, s in zip(piece.values, signs, strict=True))
    return Piece(piece.low, piece.high, values)


def _sorted(piece: Piece) -> Piece:
    """MinMax on a piece on which no pair changes its order."""
    middle = piece.at(piece.middle)
    values: list[Linear] = []
    for i in range(0, len(middle), 2):
        pair = piece.values[i : i + 2]
        values += pair if middle[i] <= middle[i + 1] else pair[::-1]
    return Piece(piece.low, piece.high, tuple(values))


def kinks_on_line(
    backbone: nn.Module, start: Vector, direction: Vector, low: Fraction, high: Fraction
) -> list[Fraction]:
    """The t strictly between ``low`` and ``high`` at which a layer may change its linear piece."""
    return [piece.low for piece in pieces_on_line(backbone, start, direction, low, high)[1:]]


def representatives(
    backbone: nn.Module, start: Vector, direction: Vector, low: Fraction, high: Fraction
) -> list[Fraction]:
    """Ascending t, from ``low`` to ``high``, that meet every order of the logits on the segment."""
    ends = {low, high}
    for piece in pieces_on_line(backbone, start, direction, low, high):
        differences = [_minus(a, b) for a, b in combinations(piece.values, 2)]
        for part in piece.split(differences):
            ends |= {part.low, part.high}
    ordered = sorted(ends)
    return sorted({*ordered, *((a + b) / 2 for a, b in pairwise(ordered))})


@dataclass(frozen=True)
class Segment:
    """The part of each ball that lies on a line through x, by its representatives."""

    backbone: nn.Module
    centre: Vector
    direction: Vector

    def points_in(self, ball: Ball) -> list[list[Fraction]]:
        """The representatives in a ball, as points of the input space."""
        reach = longest_step(ball, self.direction)
        places = representatives(self.backbone, self.centre, self.direction, -reach, reach)
        return [
            [x + t * d for x, d in zip(self.centre, self.direction, strict=True)] for t in places
        ]

    def logits_in(self, ball: Ball) -> list[list[Fraction]]:
        """The exact logits at these points."""
        return [forward(self.backbone, point) for point in self.points_in(ball)]

    def holds(self, prop: Property) -> bool:
        """Whether the property holds at x, judged on this segment of each of its balls."""
        return holds(prop, forward(self.backbone, self.centre), self.logits_in)

    def witness(self, prop: Property) -> list[Fraction] | None:
        """A point that alone, or else together with others, breaks the property; None if it holds.

        Where each prefix length needs a point of its own, the one that breaks the most of the
        ranking is given: the first at which the property of that single point fails.
        """
        if self.holds(prop):
            return None
        centre = forward(self.backbone, self.centre)
        candidates = [point for ball in prop.balls for point in self.points_in(ball)]
        for point in candidates:
            logits = forward(self.backbone, point)
            if not holds(prop, centre, lambda ball, logits=logits, point=point: (
                [logits] if in_ball(ball, self.centre, point) else []
            )):  # fmt: skip
                return point
        return candidates[0]


def decide_on_one_input(prop: Property, backbone: nn.Module, x: Fraction) -> bool:
    """Whether the property holds at the point x of a network with one input: the exact truth.

    The ball is the interval [x - eps, x + eps] in every norm.
    """
    return Segment(backbone, [x], [Fraction(1)]).holds(prop)
