"""Exact references over Fractions: slow, obvious, and free of any of the code under test."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.spec.ball import Ball, Norm

Vector = list[Fraction]
Matrix = list[Vector]

DUAL: dict[Norm, Norm] = {"l2": "l2", "linf": "l1", "l1": "linf"}


def exact(values: Tensor) -> Matrix:
    """The numbers of a matrix, (rows, columns), exactly."""
    return [[Fraction(v) for v in row] for row in values.detach().double().tolist()]


def exact_vector(values: Tensor) -> Vector:
    """The numbers of a tensor of any shape, flattened, exactly."""
    return [Fraction(v) for v in values.detach().double().flatten().tolist()]


def exact_rows(values: Tensor) -> Iterator[tuple[Fraction, ...]]:
    """The rows of a matrix, (rows, columns), one after the other, exactly."""
    for row in values.detach().double().tolist():
        yield tuple(map(Fraction, row))


def tensor_of(values: Sequence[Fraction]) -> Tensor:
    """Exact numbers as float64, shape (n,), each rounded to nearest."""
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def gram(matrix: Matrix) -> Matrix:
    """W^T W or W W^T, whichever is smaller."""
    columns = [list(c) for c in zip(*matrix, strict=True)]
    sides = columns if len(columns) <= len(matrix) else matrix
    return [[_dot(u, v) for v in sides] for u in sides]


def positive_semidefinite(matrix: Matrix) -> bool:
    """Whether a symmetric matrix is positive semidefinite, by L D L^T over the rationals."""
    rest = [row[:] for row in matrix]
    while rest:
        pivot, column = rest[0][0], [row[0] for row in rest]
        if pivot < 0 or (pivot == 0 and any(column)):
            return False
        rest = [
            [
                rest[i][j] - (column[i] * column[j] / pivot if pivot else 0)
                for j in range(1, len(rest))
            ]
            for i in range(1, len(rest))
        ]
    return True


def at_least_spectral_norm(bound: float, weight: Tensor) -> bool:
    """Whether ``bound`` >= ||W||_2, decided exactly: bound^2 I - W^T W is positive semidefinite."""
    if bound == math.inf:
        return True
    square = Fraction(bound) ** 2
    product = gram(exact(weight))
    return positive_semidefinite(
        [
            [(square if i == j else 0) - v for j, v in enumerate(row)]
            for i, row in enumerate(product)
        ]
    )


def at_least_induced_norm(bound: float, weight: Tensor, norm: Norm) -> bool:
    """Whether ``bound`` >= sup ||W h|| / ||h|| in ``norm``, decided exactly."""
    if norm == "l2":
        return at_least_spectral_norm(bound, weight)
    rows = exact(weight if norm == "linf" else weight.mT)
    return all(norm_within(row, "l1", bound) for row in rows)


def norm_within(values: Sequence[Fraction], norm: Norm, bound: float | Fraction) -> bool:
    """Whether the norm of an exact vector is at most ``bound``."""
    if bound == math.inf:
        return True
    limit = Fraction(bound)
    if limit < 0:
        return False
    match norm:
        case "l2":
            return _dot(values, values) <= limit * limit
        case "linf":
            return max(map(abs, values)) <= limit
        case "l1":
            return sum(map(abs, values)) <= limit


def in_ball(ball: Ball, centre: Sequence[Fraction], point: Sequence[Fraction]) -> bool:
    """Whether ||point - centre|| <= eps, exactly; both flattened."""
    moved = [a - b for a, b in zip(point, centre, strict=True)]
    return norm_within(moved, ball.norm, ball.eps)


def longest_step(ball: Ball, direction: Sequence[Fraction]) -> Fraction:
    """A t >= 0 with ||t direction|| <= eps; exact for linf and l1, for l2 a hair below."""
    match ball.norm:
        case "linf":
            length = max(map(abs, direction))
        case "l1":
            length = sum(map(abs, direction), start=Fraction(0))
        case "l2":
            length = _root_above(_dot(direction, direction))
    return ball.eps / length if length else Fraction(0)


def forward(backbone: nn.Module, inputs: Sequence[Fraction]) -> Vector:
    """The real-arithmetic function of the stored numbers, for one flat input.

    Raises:
        UnsupportedLayer: a layer that is not affine on pieces of a flat vector.
    """
    hidden = list(inputs)
    for layer in leaves(backbone):
        match layer:
            case nn.Linear():
                hidden = affine(layer, hidden)
            case nn.ReLU():
                hidden = [max(v, Fraction(0)) for v in hidden]
            case MinMax():
                hidden = [v for i in range(0, len(hidden), 2) for v in sorted(hidden[i : i + 2])]
            case InputNormalisation():
                hidden = [(v - m) / s for v, (m, s) in zip(hidden, scales(layer, len(hidden)))]  # noqa: B905
            case _:
                pass
    return hidden


def leaves(backbone: nn.Module) -> Iterator[nn.Module]:
    """The layers of a (nested) nn.Sequential in order.

    Raises:
        UnsupportedLayer: one of them is not known here.
    """
    if type(backbone) is nn.Sequential:
        for layer in vars(backbone)["_modules"].values():
            yield from leaves(layer)
        return
    if type(backbone) not in KNOWN:
        names = ", ".join(kind.__name__ for kind in KNOWN)
        raise UnsupportedLayer(
            f"{type(backbone).__name__} has no exact evaluation; only nn.Sequential of {names} has."
        )
    yield backbone


KNOWN = (nn.Linear, nn.ReLU, MinMax, InputNormalisation, nn.Flatten, nn.Identity, nn.Dropout)


def affine(layer: nn.Linear, inputs: Sequence[Fraction], *, bias: bool = True) -> Vector:
    """W h + b, or W h alone."""
    weight = exact(layer.weight)
    given: Tensor | None = getattr(layer, "bias", None)
    shift = exact_vector(given) if bias and given is not None else [Fraction(0)] * len(weight)
    return [_dot(row, inputs) + b for row, b in zip(weight, shift, strict=True)]


def scales(layer: InputNormalisation, count: int) -> list[tuple[Fraction, Fraction]]:
    """(mean, std) for each of ``count`` flat features."""
    mean, std = exact_vector(layer.mean), exact_vector(layer.std)
    return [(mean[i % len(mean)], std[i % len(std)]) for i in range(count)]


def _dot(left: Sequence[Fraction], right: Sequence[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(left, right, strict=True)), start=Fraction(0))


def _root_above(square: Fraction) -> Fraction:
    """A rational a hair above the square root (exactly it where it is rational)."""
    shift = 1 << 64
    scaled = square * shift * shift
    whole = math.isqrt(scaled.numerator // scaled.denominator)
    return Fraction(whole if whole * whole == scaled else whole + 1, shift)
