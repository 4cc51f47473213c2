"""Linear expressions of VNN-LIB 1.0 as exact coefficients."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from relaxcert.interop.vnnlib.sexpressions import Atom, Expression, at

_NUMBER = re.compile(r"[+-]?[0-9]{1,1200}(\.[0-9]{0,1200})?([eE][+-]?[0-9]{1,3})?")
_MOST_BITS = 20_000
# At most 1,000,000 of a kind.
VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,5})")

Declared = dict[str, set[int]]  # indices by kind, "X" and "Y"


@dataclass(frozen=True, slots=True)
class Affine:
    """``sum of factor_i X_i + sum of factor_j Y_j + constant``; no factor is 0."""

    inputs: Mapping[int, Fraction] = field(default_factory=dict[int, Fraction])
    outputs: Mapping[int, Fraction] = field(default_factory=dict[int, Fraction])
    constant: Fraction = Fraction(0)

    def __sub__(self, other: Affine) -> Affine:
        return _total([self, other.times(Fraction(-1))])

    def times(self, factor: Fraction) -> Affine:
        """The expression times a number."""
        if factor == 0:
            return Affine()
        inputs = {index: factor * value for index, value in self.inputs.items()}
        outputs = {index: factor * value for index, value in self.outputs.items()}
        return Affine(inputs, outputs, self.constant * factor)

    @property
    def is_constant(self) -> bool:
        """Whether no variable is left."""
        return not self.inputs and not self.outputs


def affine_of(expression: Expression, declared: Declared, origin: str) -> Affine:
    """The coefficients of a number, a variable, or ``+``, ``-``, ``*``, ``/`` of such.

    Raises:
        DocumentError: an unknown operator, an undeclared variable, a product of variables, a
            division by a variable or by 0; with line and column.
    """
    if isinstance(expression, Atom):
        return _atom(expression, declared, origin)
    if len(expression.items) < 2 or not isinstance(expression.items[0], Atom):
        raise at(origin, expression, "expected an expression such as (+ Y_0 1.5)")
    operator = expression.items[0].text
    values = [affine_of(part, declared, origin) for part in expression.items[1:]]
    match operator:
        case "+":
            return _total(values)
        case "-" if len(values) == 1:
            return values[0].times(Fraction(-1))
        case "-":
            return values[0] - _total(values[1:])
        case "*":
            return _multiplied(values, expression, origin)
        case "/" if len(values) == 2:
            if not values[1].is_constant or values[1].constant == 0:
                raise at(origin, expression, "division only by a number other than 0")
            return values[0].times(1 / values[1].constant)
        case _:
            raise at(
                origin, expression, f"{operator[:40]!r} is not understood: expected +, -, * or /"
            )


def _atom(atom: Atom, declared: Declared, origin: str) -> Affine:
    match = VARIABLE.fullmatch(atom.text)
    if match is not None:
        kind, index = match[1], int(match[2])
        if index not in declared[kind]:
            raise at(origin, atom, f"{atom.text} is not declared before it is used")
        one = {index: Fraction(1)}
        return Affine(inputs=one) if kind == "X" else Affine(outputs=one)
    if _NUMBER.fullmatch(atom.text) is None:
        raise at(origin, atom, f"{atom.text[:40]!r} is neither a number nor a variable X_i or Y_i")
    return Affine(constant=Fraction(atom.text))


def _multiplied(values: list[Affine], place: Expression, origin: str) -> Affine:
    result = values[0]
    for value in values[1:]:
        if not value.is_constant and not result.is_constant:
            raise at(origin, place, "a product of variables is not linear")
        number, other = (value, result) if value.is_constant else (result, value)
        result = other.times(number.constant)
        if max(map(_bits, (result.constant, number.constant))) > _MOST_BITS:
            raise at(origin, place, "a number with more than 20000 bits is not read")
    return result


def _bits(number: Fraction) -> int:
    return number.numerator.bit_length() + number.denominator.bit_length()


def _total(values: list[Affine]) -> Affine:
    inputs: dict[int, Fraction] = {}
    outputs: dict[int, Fraction] = {}
    for value in values:
        for total, more in ((inputs, value.inputs), (outputs, value.outputs)):
            for index, factor in more.items():
                total[index] = total.get(index, Fraction(0)) + factor
    return Affine(
        {index: factor for index, factor in inputs.items() if factor != 0},
        {index: factor for index, factor in outputs.items() if factor != 0},
        sum((value.constant for value in values), Fraction(0)),
    )
