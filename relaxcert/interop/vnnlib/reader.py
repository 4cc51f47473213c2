"""Reading VNN-LIB 1.0: declarations and assertions over X_i and Y_j, strictly.

Read are ``declare-const`` and ``declare-fun`` of real X_i and Y_j, and ``assert`` of ``<=`` and
``>=`` between linear expressions, nested in ``and`` and ``or``. An input is bounded by inequalities
that name it alone. Everything else is refused with its line and column: a construct that was
skipped would change the question.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from relaxcert.errors import DocumentError
from relaxcert.interop.vnnlib.expressions import VARIABLE, Affine, Declared, affine_of
from relaxcert.interop.vnnlib.linear import Case, Inequality, Interval, VnnLibQuery
from relaxcert.interop.vnnlib.sexpressions import (
    Atom,
    Branch,
    Expression,
    at,
    parse_expressions,
    read_file,
)

MOST_CONJUNCTIONS = 100_000
MOST_LITERALS = 20_000_000


@dataclass(frozen=True, slots=True)
class _Literal:
    """``affine >= 0``, and where the file says so."""

    affine: Affine
    place: Expression


_Conjunction = tuple[_Literal, ...]


def read_vnnlib(path: str | Path) -> VnnLibQuery:
    """Read a VNN-LIB 1.0 file.

    Raises:
        DocumentError: the file cannot be read, or holds something that is not understood; names
            file, line, column and what was expected.
    """
    return parse_vnnlib(read_file(path), origin=str(path))


def parse_vnnlib(text: str, *, origin: str = "VNN-LIB text") -> VnnLibQuery:
    """Parse VNN-LIB 1.0; ``origin`` names the text in errors.

    Raises the errors of :func:`read_vnnlib`.
    """
    declared: Declared = {"X": set(), "Y": set()}
    # What holds in every alternative is kept apart, or a box would be copied for each of its sides.
    common: list[_Literal] = []
    conjunctions: list[_Conjunction] = [()]
    for statement in parse_expressions(text, origin):
        keyword = _keyword(statement, origin)
        if keyword in ("declare-const", "declare-fun"):
            _declare(statement, keyword, declared, origin)
        elif keyword == "assert":
            if len(statement.items) != 2:
                raise at(origin, statement, "(assert ...) takes exactly one formula")
            found = _formula(statement.items[1], declared, origin)
            if len(found) == 1:
                common.extend(found[0])
            else:
                conjunctions = _product(conjunctions, found, statement, origin)
        else:
            more = " (this is a VNN-LIB 2.0 file)" if keyword == "vnnlib-version" else ""
            raise at(
                origin,
                statement,
                f"{keyword!r} is not VNN-LIB 1.0{more}: expected declare-const, declare-fun or "
                "assert",
            )
    inputs, outputs = (_count(declared[kind], kind, origin) for kind in "XY")
    if len(conjunctions) * len(common) > MOST_LITERALS:
        raise DocumentError(
            f"{origin}: {len(conjunctions)} alternatives of {len(common)} inequalities and more "
            f"are beyond the limit of {MOST_LITERALS}: split the file."
        )
    everything = (tuple(common) + conjunction for conjunction in conjunctions)
    return VnnLibQuery(inputs, outputs, _cases(everything, inputs, origin))


def _keyword(branch: Branch, origin: str) -> str:
    if not branch.items or not isinstance(branch.items[0], Atom):
        raise at(origin, branch, "a bracket must begin with a keyword")
    return branch.items[0].text


def _declare(statement: Branch, keyword: str, declared: Declared, origin: str) -> None:
    match statement.items[1:]:
        case (Atom() as name, Atom(text="Real")) if keyword == "declare-const":
            pass
        case (Atom() as name, Branch(items=()), Atom(text="Real")) if keyword == "declare-fun":
            pass
        case _:
            arguments = " ()" if keyword == "declare-fun" else ""
            raise at(origin, statement, f"expected ({keyword} X_0{arguments} Real)")
    match = VARIABLE.fullmatch(name.text)
    if match is None:
        raise at(origin, name, f"{name.text[:40]!r} must be an input X_i or an output Y_i")
    kind, index = match[1], int(match[2])
    if index in declared[kind]:
        raise at(origin, name, f"{name.text} is declared twice")
    declared[kind].add(index)


def _count(indices: set[int], kind: str, origin: str) -> int:
    if not indices:
        raise DocumentError(f"{origin}: no {kind}_0 is declared: declare all inputs and outputs.")
    if max(indices) != len(indices) - 1:
        missing = min(set(range(len(indices))) - indices)
        raise DocumentError(f"{origin}: {kind}_{missing} is not declared, but later ones are.")
    return len(indices)


def _formula(expression: Expression, declared: Declared, origin: str) -> list[_Conjunction]:
    """Disjunctive normal form of a formula."""
    if isinstance(expression, Atom):
        raise at(
            origin, expression, f"expected a formula in brackets, found {expression.text[:40]!r}"
        )
    keyword, parts = _keyword(expression, origin), expression.items[1:]
    if keyword in ("and", "or"):
        if not parts:
            raise at(origin, expression, f"({keyword}) needs at least one formula")
        found = [_formula(part, declared, origin) for part in parts]
        if keyword == "or":
            return [conjunction for alternatives in found for conjunction in alternatives]
        result: list[_Conjunction] = [()]
        for alternatives in found:
            result = _product(result, alternatives, expression, origin)
        return result
    if keyword not in ("<=", ">="):
        raise at(
            origin, expression, f"{keyword[:40]!r} is not understood: expected and, or, <= or >="
        )
    if len(parts) != 2:
        raise at(origin, expression, f"({keyword} ...) takes exactly two expressions")
    left, right = (affine_of(part, declared, origin) for part in parts)
    return [(_Literal(left - right if keyword == ">=" else right - left, expression),)]


def _product(
    first: list[_Conjunction], second: list[_Conjunction], place: Expression, origin: str
) -> list[_Conjunction]:
    if len(first) * len(second) > MOST_CONJUNCTIONS:
        raise at(
            origin,
            place,
            f"multiplied out, the assertions have more than {MOST_CONJUNCTIONS} alternatives",
        )
    return [one + other for one in first for other in second]


def _cases(conjunctions: Iterable[_Conjunction], inputs: int, origin: str) -> tuple[Case, ...]:
    """Group the alternatives by their box; those with an empty box have no answer and go."""
    grouped: dict[tuple[Interval, ...], dict[tuple[Inequality, ...], None]] = {}
    for conjunction in conjunctions:
        box = _box(conjunction, inputs, origin)
        outputs = tuple(
            Inequality.of(literal.affine.outputs, literal.affine.constant)
            for literal in conjunction
            if not literal.affine.inputs
        )
        if all(side.low <= side.high for side in box):
            grouped.setdefault(box, {})[outputs] = None
    return tuple(Case(box, tuple(outputs)) for box, outputs in grouped.items())


def _box(conjunction: _Conjunction, inputs: int, origin: str) -> tuple[Interval, ...]:
    low: dict[int, Fraction] = {}
    high: dict[int, Fraction] = {}
    for literal in conjunction:
        affine = literal.affine
        if not affine.inputs:
            continue
        if affine.outputs or len(affine.inputs) > 1:
            raise at(
                origin,
                literal.place,
                "an inequality over inputs must bound one X_i by numbers; other input sets than "
                "boxes are not read",
            )
        ((index, factor),) = affine.inputs.items()
        bound = -affine.constant / factor
        if factor > 0:
            low[index] = max(low.get(index, bound), bound)
        else:
            high[index] = min(high.get(index, bound), bound)
    for index in range(inputs):
        for side, found in (("lower", low), ("upper", high)):
            if index not in found:
                raise DocumentError(
                    f"{origin}: X_{index} has no {side} bound in some alternative: the inputs must "
                    "form a box."
                )
    return tuple(Interval(low[index], high[index]) for index in range(inputs))
