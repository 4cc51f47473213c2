"""What a VNN-LIB text says, by parsers not ours: the ``vnnlib`` package (2.0) and z3 (1.0)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from math import prod
from operator import mul

import vnnlib
import z3

Exact = Sequence[Fraction]


class Parsed2:
    """A 2.0 file as its standard's own parser sees it, evaluated in exact arithmetic."""

    def __init__(self, text: str) -> None:
        self.query = vnnlib.parse_query_string(text)
        (network,) = self.query.networks
        (self.inputs,), (self.outputs,) = network.inputs, network.outputs

    def holds(self, inputs: Exact, outputs: Exact) -> bool:
        values = {"X": (self.inputs.shape, inputs), "Y": (self.outputs.shape, outputs)}
        return all(truth(assertion.expr, values) for assertion in self.query.assertions)


def truth(expression, values) -> bool:
    match expression:
        case vnnlib.And():
            return all(truth(part, values) for part in expression.args)
        case vnnlib.Or():
            return any(truth(part, values) for part in expression.args)
        case vnnlib.GreaterEqual():
            return number(expression.lhs, values) >= number(expression.rhs, values)
        case vnnlib.LessEqual():
            return number(expression.lhs, values) <= number(expression.rhs, values)
        case _:
            raise AssertionError(expression)


def number(expression, values) -> Fraction:
    match expression:
        case vnnlib.Var():
            shape, numbers = values[expression.name]
            place = 0
            for size, index in zip(shape, expression.indices, strict=True):
                place = place * size + index
            assert prod(shape) == len(numbers)
            return numbers[place]
        case vnnlib.Plus():
            return sum((number(part, values) for part in expression.args), Fraction(0))
        case vnnlib.Minus():
            rest = sum((number(part, values) for part in expression.rest), Fraction(0))
            return number(expression.head, values) - rest
        case vnnlib.Multiply():
            return reduce(mul, (number(part, values) for part in expression.args))
        case vnnlib.Negate():
            return -number(expression.expr, values)
        case vnnlib.Float() | vnnlib.Int() | vnnlib.Literal():
            return Fraction(expression.lexeme)
        case _:
            raise AssertionError(expression)


class Parsed1:
    """A 1.0 file as an SMT solver sees it."""

    def __init__(self, text: str) -> None:
        self.context = z3.Context()
        self.assertions = z3.And(*z3.parse_smt2_string(text, ctx=self.context))

    def holds(self, inputs: Exact, outputs: Exact) -> bool:
        """Substitute exact numbers; whatever is left undecided is an error."""
        known = [(f"X_{place}", value) for place, value in enumerate(inputs)]
        known += [(f"Y_{place}", value) for place, value in enumerate(outputs)]
        pairs = [
            (z3.Real(name, self.context), z3.Q(value.numerator, value.denominator, self.context))
            for name, value in known
        ]
        result = z3.simplify(z3.substitute(self.assertions, *pairs))
        assert z3.is_true(result) or z3.is_false(result), result
        return z3.is_true(result)
