"""VNN-LIB texts of one query: the input ball and the violation, in version 1.0 or 2.0.

A file states the *violation*: UNSAT proves that the query has no answer. In 1.0 an input set is a
box, so an l2 or l1 ball goes out as the box around it: UNSAT carries over to the ball, SAT does not
(the point may lie in a corner). In 2.0 an l2 ball is written exactly, as a polynomial constraint
besides the box, which few tools take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from relaxcert.errors import InvalidInput
from relaxcert.interop.vnnlib.decimals import decimal_down, decimal_exactly, decimal_up
from relaxcert.spec.ball import Ball, format_eps
from relaxcert.spec.violation import Query

Version = Literal["1.0", "2.0"]
InputSet = Literal["ball", "box around the ball"]


@dataclass(frozen=True, slots=True)
class Point:
    """Where a query is asked.

    Attributes:
        inputs: x, flattened in row-major order; each float64 is taken exactly.
        shape: of x, without a batch dimension.
        num_classes: the number of outputs.
    """

    inputs: tuple[float, ...]
    shape: tuple[int, ...]
    num_classes: int

    def __post_init__(self) -> None:
        if math.prod(self.shape) != len(self.inputs) or not self.inputs:
            raise InvalidInput(
                f"inputs has {len(self.inputs)} numbers, expected {math.prod(self.shape)} for "
                f"shape={self.shape}, and at least one."
            )
        if not all(map(math.isfinite, self.inputs)):
            raise InvalidInput("inputs holds NaN or infinity: no file can state such a point.")


def input_set(ball: Ball, version: Version) -> InputSet:
    """What a file of that version says of the inputs."""
    exact = ball.norm == "linf" or (ball.norm == "l2" and version == "2.0")
    return "ball" if exact else "box around the ball"


def vnnlib_text(
    query: Query, point: Point, *, version: Version = "1.0", notes: Sequence[str] = ()
) -> str:
    """The text of a file.

    Bounds are rounded outward (see :mod:`relaxcert.interop.vnnlib.decimals`): the box is never
    smaller than the ball, in exact arithmetic and after a tool has read it into float64.

    Args:
        query: what is asked; its violation must not be empty.
        point: where.
        version: of VNN-LIB.
        notes: lines for the header comment, such as the property's digest.

    Raises:
        InvalidInput: no conjunction, an unknown version, or bounds beyond float64.
    """
    if version not in ("1.0", "2.0"):
        raise InvalidInput(f"version={version!r} must be '1.0' or '2.0'.")
    if not query.violation:
        raise InvalidInput("the query has no conjunction: nothing breaks it, and no file is due.")
    names = _names_1 if version == "1.0" else _names_2
    x_name, y_name, declarations = names(point)
    lines = [
        *_header(query.ball, version, notes),
        *declarations,
        "",
        *_box(query.ball, point, x_name),
        *(_l2_ball(query.ball, point, x_name) if _has_polynomial(query.ball, version) else ()),
        "",
        *_violation(query, y_name),
    ]
    return "\n".join(lines) + "\n"


def _header(ball: Ball, version: Version, notes: Sequence[str]) -> list[str]:
    lines = [
        f"VNN-LIB {version}, written by relaxcert",
        "States the violation: UNSAT proves that this query is robust.",
        f"ball: {ball.norm}, eps {format_eps(ball.eps)}; bounds are rounded outward",
    ]
    if input_set(ball, version) != "ball":
        lines.append(
            f"The inputs are the box around the {ball.norm} ball: UNSAT carries over to the ball, "
            "SAT only if the point found lies in it."
        )
    # A line break in a note would end the comment.
    safe = [" ".join(note.split()) for note in (*lines, *notes)]
    return [f"; {line}" for line in safe]


Name = Callable[[int], str]


def _names_1(point: Point) -> tuple[Name, Name, list[str]]:
    declared = [f"(declare-const X_{place} Real)" for place in range(len(point.inputs))]
    declared += [f"(declare-const Y_{place} Real)" for place in range(point.num_classes)]
    return lambda place: f"X_{place}", lambda place: f"Y_{place}", declared


def _names_2(point: Point) -> tuple[Name, Name, list[str]]:
    shape = ",".join(map(str, (1, *point.shape)))
    declared = [
        "(vnnlib-version <2.0>)",
        "(declare-network f",
        f"  (declare-input X real [{shape}])",
        f"  (declare-output Y real [1,{point.num_classes}])",
        ")",
    ]
    return lambda place: _element(place, point.shape), lambda place: f"Y[0,{place}]", declared


def _element(place: int, shape: tuple[int, ...]) -> str:
    """``X[0,...]`` of a place in row-major order."""
    indices: list[int] = []
    for size in reversed(shape):
        place, index = divmod(place, size)
        indices.append(index)
    return f"X[{','.join(map(str, [0, *reversed(indices)]))}]"


def _box(ball: Ball, point: Point, name: Name) -> list[str]:
    lines: list[str] = []
    for place, value in enumerate(point.inputs):
        centre = Fraction(value)
        lines.append(f"(assert (>= {name(place)} {decimal_down(centre - ball.eps)}))")
        lines.append(f"(assert (<= {name(place)} {decimal_up(centre + ball.eps)}))")
    return lines


def _has_polynomial(ball: Ball, version: Version) -> bool:
    return ball.norm == "l2" and version == "2.0"


def _l2_ball(ball: Ball, point: Point, name: Name) -> list[str]:
    """Sum of (X_i - x_i)^2 <= eps^2, with x_i exact and eps^2 rounded up."""
    squares: list[str] = []
    for place, value in enumerate(point.inputs):
        offset = f"(- {name(place)} {decimal_exactly(value)})"
        squares.append(f"(* {offset} {offset})")
    total = squares[0] if len(squares) == 1 else f"(+ {' '.join(squares)})"
    return [f"(assert (<= {total} {decimal_up(ball.eps**2)}))"]


def _violation(query: Query, name: Name) -> list[str]:
    conjunctions = [
        [f"(>= {name(atom.challenger)} {name(atom.incumbent)})" for atom in conjunction]
        for conjunction in query.violation
    ]
    if len(conjunctions) == 1:
        return [f"(assert {atom})" for atom in conjunctions[0]]
    # Some parsers take a disjunct only inside (and ...), even a single atom.
    return ["(assert (or", *(f"  (and {' '.join(atoms)})" for atoms in conjunctions), "))"]
