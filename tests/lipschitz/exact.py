"""Exact references over Fractions: slow, obvious, and free of any of the code under test."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from torch import Tensor, nn

from relaxcert.nn.layers import InputNormalisation, MinMax

Vector = list[Fraction]
Matrix = list[Vector]


def exact(values: Tensor) -> Matrix:
    return [[Fraction(v) for v in row] for row in values.detach().double().tolist()]


def exact_vector(values: Tensor) -> Vector:
    return [Fraction(v) for v in values.detach().double().flatten().tolist()]


def gram(matrix: Matrix) -> Matrix:
    """W^T W or W W^T, whichever is smaller."""
    columns = [list(c) for c in zip(*matrix, strict=True)]
    sides = columns if len(columns) <= len(matrix) else matrix
    return [[sum(a * b for a, b in zip(u, v, strict=True)) for v in sides] for u in sides]


def positive_semidefinite(matrix: Matrix) -> bool:
    """By L D L^T over the rationals."""
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
    """Whether ``bound`` >= ||W||_2, decided exactly: bound^2 I - W^T W is PSD."""
    if bound == float("inf"):
        return True
    square = Fraction(bound) ** 2
    product = gram(exact(weight))
    return positive_semidefinite(
        [
            [(square if i == j else 0) - v for j, v in enumerate(row)]
            for i, row in enumerate(product)
        ]
    )


def norm_within(values: Sequence[Fraction], order: str, bound: float) -> bool:
    """Whether the l2, linf or l1 norm of an exact vector is at most ``bound``."""
    if bound == float("inf"):
        return True
    limit = Fraction(bound)
    match order:
        case "l2":
            return sum(v * v for v in values) <= limit * limit
        case "linf":
            return max(map(abs, values)) <= limit
        case _:
            return sum(map(abs, values)) <= limit


def affine(layer: nn.Linear, inputs: Vector) -> Vector:
    weight = exact(layer.weight)
    bias = [Fraction(0)] * len(weight) if layer.bias is None else exact_vector(layer.bias)
    return [
        sum((w * x for w, x in zip(row, inputs, strict=True)), start=b)
        for row, b in zip(weight, bias, strict=True)
    ]


def forward(backbone: nn.Sequential, inputs: Vector) -> Vector:
    """The real-arithmetic function of the stored numbers, for one flat input."""
    hidden = inputs
    for layer in backbone:
        match layer:
            case nn.Linear():
                hidden = affine(layer, hidden)
            case nn.ReLU():
                hidden = [max(v, Fraction(0)) for v in hidden]
            case MinMax():
                hidden = [v for i in range(0, len(hidden), 2) for v in sorted(hidden[i : i + 2])]
            case InputNormalisation():
                mean, std = exact_vector(layer.mean), exact_vector(layer.std)
                spread = [(mean[i % len(mean)], std[i % len(std)]) for i in range(len(hidden))]
                hidden = [(v - m) / s for v, (m, s) in zip(hidden, spread, strict=True)]
            case nn.Sequential():
                hidden = forward(layer, hidden)
            case nn.Flatten() | nn.Identity() | nn.Dropout():
                pass
            case _:
                raise TypeError(type(layer))
    return hidden
