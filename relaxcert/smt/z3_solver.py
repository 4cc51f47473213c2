"""The z3 backend: a fresh context for every script, so that answers do not depend on history."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import z3  # pyright: ignore[reportMissingTypeStubs]

from relaxcert.smt.solver import Reply, Script


class Z3Solver:
    """z3's simplex solver for linear real arithmetic, exact and deterministic."""

    name = "z3"

    def check(self, script: Script, *, seconds: float, rlimit: int) -> Reply:
        """Solve a script; ``rlimit`` is reproducible, ``seconds`` is wall time."""
        context = z3.Context()
        solver: Any = z3.SimpleSolver(ctx=context)
        solver.set("timeout", max(1, int(seconds * 1000)))
        solver.set("rlimit", rlimit)
        solver.set("ctrl_c", False)
        solver.from_string(script.text)
        result = _checked(solver, context)
        if result == z3.unsat:
            return Reply("unsat")
        if result == z3.sat:
            return Reply("sat", _model(solver.model(), context, script.names))
        # z3 says "canceled" for either limit.
        spent = _spent(solver)
        limit = "rlimit" if spent is not None and spent >= rlimit else "timeout"
        reason = str(solver.reason_unknown())
        return Reply("unknown", reason=f"{limit} ({reason})" if "cancel" in reason else reason)


def _checked(solver: Any, context: Any) -> Any:
    """``solver.check()``; Ctrl-C stops it and is raised.

    By itself z3 takes Ctrl-C for a limit and answers unknown, which would then be recorded.
    """
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(solver.check)
        try:
            return answer.result()
        except KeyboardInterrupt:
            context.interrupt()
            raise


def _model(model: Any, context: Any, names: tuple[str, ...]) -> dict[str, Fraction]:
    values: dict[str, Fraction] = {}
    for name in names:
        value: Any = model.eval(z3.Real(name, context), model_completion=True)
        values[name] = Fraction(value.numerator_as_long(), value.denominator_as_long())
    return values


def _spent(solver: Any) -> int | None:
    statistics: Any = solver.statistics()
    keys: list[str] = list(statistics.keys())
    return int(statistics.get_key_value("rlimit count")) if "rlimit count" in keys else None
