"""Affine maps over the rationals: integer matrices over one common denominator.

Every number that a network stores is a float, hence an integer over a power of two, so a whole
layer is a matrix of integers over one denominator, and numpy's object arrays do the arithmetic on
Python's unbounded integers. Nothing here rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[Any]  # dtype object, Python integers


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A vector of exact numbers, ``numerators / denominator``."""

    numerators: Integers
    denominator: int

    @classmethod
    def of(cls, values: Sequence[Fraction]) -> Point:
        """From fractions (or anything that ``Fraction`` takes exactly)."""
        exact = [Fraction(value) for value in values]
        common = math.lcm(*(value.denominator for value in exact))
        scaled = [value.numerator * (common // value.denominator) for value in exact]
        return cls(_objects(scaled), common)

    def fractions(self) -> tuple[Fraction, ...]:
        """The numbers, in lowest terms."""
        return tuple(Fraction(int(value), self.denominator) for value in self.numerators)

    def __add__(self, other: Point) -> Point:
        common = math.lcm(self.denominator, other.denominator)
        left = self.numerators * (common // self.denominator)
        return Point(left + other.numerators * (common // other.denominator), common)

    def relu(self) -> Point:
        """max(v, 0), elementwise."""
        return Point(np.where(self.numerators > 0, self.numerators, 0), self.denominator)


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """v -> (matrix @ v + offset) / denominator; shapes (rows, columns) and (rows,)."""

    matrix: Integers
    offset: Integers
    denominator: int = 1

    @classmethod
    def of(cls, matrix: NDArray[np.float64], offset: NDArray[np.float64] | None = None) -> Affine:
        """The exact values of finite float64 numbers."""
        constant = np.zeros(len(matrix)) if offset is None else offset
        stacked = np.concatenate([matrix, constant[:, None]], axis=1)
        numerators, denominator = integers_of(stacked)
        return cls(numerators[:, :-1], numerators[:, -1], denominator).reduced()

    @classmethod
    def from_fractions(
        cls, rows: Sequence[Sequence[Fraction]], offset: Sequence[Fraction]
    ) -> Affine:
        """From rows of fractions, all of one length."""
        flat = Point.of([value for row in rows for value in row] + list(offset))
        count = len(rows) * len(rows[0]) if rows else 0
        matrix = flat.numerators[:count].reshape(len(rows), -1)
        return cls(matrix, flat.numerators[count:], flat.denominator)

    @classmethod
    def identity(cls, size: int) -> Affine:
        """v -> v."""
        return cls.selection(range(size), size)

    @classmethod
    def selection(cls, places: Sequence[int], size: int) -> Affine:
        """v -> (v[places[0]], v[places[1]], ...)."""
        matrix = _zeros(len(places), size)
        matrix[np.arange(len(places)), list(places)] = 1
        return cls(matrix, _zeros(len(places)))

    @classmethod
    def zero(cls, rows: int, columns: int) -> Affine:
        """v -> 0."""
        return cls(_zeros(rows, columns), _zeros(rows))

    @property
    def rows(self) -> int:
        """How many numbers come out."""
        return self.matrix.shape[0]

    @property
    def columns(self) -> int:
        """How many numbers go in."""
        return self.matrix.shape[1]

    @property
    def bits(self) -> int:
        """Bit length of the longest integer."""
        entries = [self.denominator, *self.matrix.flat, *self.offset]
        return max(int(entry).bit_length() for entry in entries)

    def __call__(self, point: Point) -> Point:
        """The value at a point."""
        value = self.matrix @ point.numerators + self.offset * point.denominator
        return Point(value, self.denominator * point.denominator)

    def __matmul__(self, before: Affine) -> Affine:
        """First ``before``, then this."""
        return Affine(
            self.matrix @ before.matrix,
            self.matrix @ before.offset + self.offset * before.denominator,
            self.denominator * before.denominator,
        ).reduced()

    def __add__(self, other: Affine) -> Affine:
        common = math.lcm(self.denominator, other.denominator)
        left, right = common // self.denominator, common // other.denominator
        return Affine(
            self.matrix * left + other.matrix * right,
            self.offset * left + other.offset * right,
            common,
        ).reduced()

    def scaled(self, factor: Fraction | int) -> Affine:
        """v -> factor * value."""
        exact = Fraction(factor)
        return Affine(
            self.matrix * exact.numerator,
            self.offset * exact.numerator,
            self.denominator * exact.denominator,
        ).reduced()

    def reduced(self) -> Affine:
        """The same map in lowest terms."""
        entries = np.concatenate([self.matrix.ravel(), self.offset])
        divisor = math.gcd(self.denominator, *(int(entry) for entry in entries))
        if divisor == 1:
            return self
        return Affine(self.matrix // divisor, self.offset // divisor, self.denominator // divisor)

    def take(self, places: Sequence[int]) -> Affine:
        """Some of the rows, in this order."""
        chosen = list(places)
        return Affine(self.matrix[chosen], self.offset[chosen], self.denominator)

    def is_zero(self) -> bool:
        """Whether the value is 0 everywhere."""
        return not self.matrix.any() and not self.offset.any()

    def float64(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Matrix and offset, each entry the float64 nearest to the exact one (inf on overflow)."""
        return _rounded(self.matrix, self.denominator), _rounded(self.offset, self.denominator)


def stacked(maps: Sequence[Affine]) -> Affine:
    """The maps of one vector, their values one after another."""
    common = math.lcm(*(part.denominator for part in maps))
    factors = [common // part.denominator for part in maps]
    return Affine(
        np.concatenate([part.matrix * factor for part, factor in zip(maps, factors, strict=True)]),
        np.concatenate([part.offset * factor for part, factor in zip(maps, factors, strict=True)]),
        common,
    )


def integers_of(values: NDArray[np.float64]) -> tuple[Integers, int]:
    """Exact integers and the power of two by which to divide them; any shape, finite float64."""
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * 2.0**53).astype(np.int64)
    powers = exponents.astype(np.int64) - 53
    least = int(powers[whole != 0].min()) if (whole != 0).any() else 0
    least = min(least, 0)
    shifts = np.where(whole != 0, powers - least, 0)
    numerators = whole.astype(object) * np.array(2, dtype=object) ** shifts.astype(object)
    return numerators, 1 << -least


def _objects(values: Sequence[int]) -> Integers:
    result = np.empty(len(values), dtype=object)
    result[:] = list(values)
    return result


def _zeros(*shape: int) -> Integers:
    return np.full(shape, 0, dtype=object)


def _rounded(numerators: Integers, denominator: int) -> NDArray[np.float64]:
    def nearest(value: int) -> float:
        try:
            return int(value) / denominator  # Python rounds quotients of integers correctly
        except OverflowError:
            return math.copysign(math.inf, value)

    flat = [nearest(value) for value in numerators.flat]
    return np.array(flat, dtype=np.float64).reshape(numerators.shape)
