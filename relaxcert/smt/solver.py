"""Solvers behind one interface: SMT-LIB text in, an exact model or a refusal out.

A problem is a script of logic QF_LRA: ``declare-const`` and ``assert`` commands only, no
``check-sat``. A backend answers for exactly that script. ``unknown`` is never a proof, and a model
is never believed: whoever asked evaluates it exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Protocol

from relaxcert.errors import InvalidInput, suggestion


@dataclass(frozen=True, slots=True)
class Script:
    """An SMT-LIB problem: its text, and the names of its real constants."""

    text: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """A solver's answer.

    Attributes:
        status: sat, unsat or unknown.
        model: for sat: the exact value of every constant.
        reason: for unknown: the limit that was hit, or why the solver gave up.
    """

    status: Literal["sat", "unsat", "unknown"]
    model: Mapping[str, Fraction] = field(default_factory=dict[str, Fraction])
    reason: str = ""


class Solver(Protocol):
    """What a backend must be able to do."""

    name: str

    def check(self, script: Script, *, seconds: float, rlimit: int) -> Reply:
        """Solve one script within so much wall time; backends without an rlimit ignore it."""
        ...


_SOLVERS: dict[str, Callable[[], Solver]] = {}


def register_solver(name: str, make: Callable[[], Solver]) -> None:
    """Make a backend available by name; ``make`` imports what it needs when it is called."""
    _SOLVERS[name] = make


def solver_named(solver: str | Solver) -> Solver:
    """The backend of that name (or the one given).

    Raises:
        InvalidInput: there is none of that name; lists those that there are.
    """
    if not isinstance(solver, str):
        return solver
    make = _SOLVERS.get(solver)
    if make is None:
        raise InvalidInput(
            f"solver={solver!r} is unknown, expected one of {', '.join(sorted(_SOLVERS))}."
            + suggestion(solver, _SOLVERS)
        )
    return make()


def solver_names() -> tuple[str, ...]:
    """The names of all backends."""
    return tuple(sorted(_SOLVERS))


def _z3() -> Solver:
    from relaxcert.smt.z3_solver import Z3Solver

    return Z3Solver()


register_solver("z3", _z3)


def _yices() -> Solver:
    from relaxcert.smt.yices_solver import YicesSolver

    return YicesSolver()


register_solver("yices", _yices)
