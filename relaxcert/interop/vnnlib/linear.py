"""What a VNN-LIB 1.0 file asks: boxes of inputs, and linear inequalities over the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Inequality:
    """``sum_j coefficient_j Y_j + constant >= 0``; only coefficients other than 0 are listed."""

    coefficients: tuple[tuple[int, Fraction], ...]
    constant: Fraction

    @classmethod
    def of(cls, coefficients: Mapping[int, Fraction], constant: Fraction) -> Inequality:
        """Build one, its outputs in ascending order."""
        kept = tuple(sorted((j, c) for j, c in coefficients.items() if c != 0))
        return cls(kept, constant)

    def value(self, outputs: Sequence[Fraction]) -> Fraction:
        """The left-hand side for exact outputs."""
        return sum((c * outputs[j] for j, c in self.coefficients), self.constant)


@dataclass(frozen=True, slots=True)
class Interval:
    """``low <= X_i <= high``."""

    low: Fraction
    high: Fraction


@dataclass(frozen=True, slots=True)
class Case:
    """Inputs in a box, outputs that fulfil every inequality of some conjunction.

    ``outputs`` is in disjunctive normal form; ``((),)`` is true, ``()`` is false.
    """

    box: tuple[Interval, ...]
    outputs: tuple[tuple[Inequality, ...], ...]

    def answered_by(self, inputs: Sequence[Fraction], outputs: Sequence[Fraction]) -> bool:
        """Whether an input and its outputs, both exact, are what this case asks for."""
        return all(
            side.low <= value <= side.high for side, value in zip(self.box, inputs, strict=True)
        ) and any(
            all(inequality.value(outputs) >= 0 for inequality in conjunction)
            for conjunction in self.outputs
        )


@dataclass(frozen=True, slots=True)
class VnnLibQuery:
    """Is there an input that answers some case? Files state violations: "no" means robust."""

    num_inputs: int
    num_outputs: int
    cases: tuple[Case, ...]

    def answered_by(self, inputs: Sequence[Fraction], outputs: Sequence[Fraction]) -> bool:
        """Whether an input and its outputs, both exact, answer the query with yes."""
        return any(case.answered_by(inputs, outputs) for case in self.cases)
