"""Asking the solver about one box: rounded first, exactly only where that leaves a doubt.

For an l2 ball the box is cut down by tangent half-spaces ``u . (x - c) <= eps ||u||``, valid for
any u. A model outside the ball is first repaired (the nearest violation in its linear piece); if
that lies outside too, it gives the next cut, which removes the whole piece.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from relaxcert.errors import RelaxcertError
from relaxcert.smt.affine import Affine
from relaxcert.smt.encode import Cell, encode
from relaxcert.smt.forms import Arithmetic, ExactArithmetic, RoundedArithmetic
from relaxcert.smt.problem import Problem
from relaxcert.smt.query import Clock, Exact
from relaxcert.smt.search import nearest_violation, walk
from relaxcert.smt.solver import Solver

Floats = NDArray[np.float64]
_ROUNDS = 40  # of cuts
_BITS = (20, 44)


class EncodingFault(RelaxcertError, RuntimeError):
    """The exact encoding has a model that is no witness: encoder or solver is wrong."""


def ask(
    problem: Problem, cell: Cell, solver: Solver, clock: Clock, rlimit: int
) -> tuple[bool, Exact | None, str]:
    """Decide one box: (proved, witness, reason); neither proved nor witness: unknown.

    Raises:
        EncodingFault: an exact model that does not violate when it is evaluated.
    """
    return _Leaf(problem, cell, solver, clock, rlimit).run()


class _Leaf:
    def __init__(
        self, problem: Problem, cell: Cell, solver: Solver, clock: Clock, rlimit: int
    ) -> None:
        self.problem, self.cell = problem, cell
        self.solver, self.clock, self.rlimit = solver, clock, rlimit
        ball = problem.query.region.ball
        self.round_ball = ball is not None and ball.norm == "l2"
        self.cuts: list[Affine] = []
        low, high = (
            np.concatenate(cell.lower or (np.zeros(0),)),
            np.concatenate(cell.upper or (np.zeros(0),)),
        )
        self.opened = (low < 0) & (high > 0)

    def run(self) -> tuple[bool, Exact | None, str]:
        attempts: list[Arithmetic] = [
            RoundedArithmetic(self.problem.network, bits) for bits in _BITS
        ]
        reason = ""
        for arithmetic in (*attempts, ExactArithmetic(self.problem.query.network)):
            proved, witness, reason, final = self._attempt(arithmetic)
            if proved or witness is not None or final:
                return proved, witness, reason
        return False, None, reason

    def _attempt(self, arithmetic: Arithmetic) -> tuple[bool, Exact | None, str, bool]:
        """(proved, witness, reason, final); not final: a sharper arithmetic may do better."""
        problem = self.problem
        exact = isinstance(arithmetic, ExactArithmetic)
        for _ in range(_ROUNDS):
            if self.clock.up:
                return False, None, "timeout", True
            encoded = encode(
                arithmetic,
                self.cell,
                problem.query.region,
                problem.query.violation,
                problem.atoms,
                problem.rows,
                self.cuts,
            )
            reply = self.solver.check(
                encoded.script, seconds=max(0.001, self.clock.left), rlimit=self.rlimit
            )
            if reply.status != "sat":
                proved = reply.status == "unsat"
                return proved, None, reply.reason, True
            point = encoded.point(dict(reply.model))
            witness = problem.witness_at(point)
            if witness is not None:
                return False, witness, "", True
            if exact and problem.query.region.contains(point):
                raise EncodingFault(
                    "the exact encoding has a model that is no witness when it is evaluated: the "
                    f"encoder or the solver {self.solver.name} is at fault; please report the "
                    "network and the point."
                )
            if not self.round_ball:
                return False, None, "the rounded encoding cannot tell", False
            witness = self._repair_or_cut(point)
            if witness is not None:
                return False, witness, "", True
        return False, None, f"no decision after {_ROUNDS} cuts of the l2 ball", False

    def _repair_or_cut(self, point: Sequence[Fraction]) -> Exact | None:
        problem = self.problem
        start = np.array([float(value) for value in point])
        offset = nearest_violation(problem, start, self.opened)
        if offset is not None:
            witness = walk(problem, problem.middle + offset)
            if witness is not None:
                return witness
            self.cuts.append(tangent(problem, offset))
        radial = start - problem.middle
        ball = problem.query.region.ball
        if ball is not None and (offset is None or np.linalg.norm(offset) <= float(ball.eps)):
            self.cuts.append(tangent(problem, radial))
        return None


def tangent(problem: Problem, direction: Floats) -> Affine:
    """x -> eps ||u|| - u . (x - c) with u a short rational near ``direction``, rounded up."""
    region = problem.query.region
    scale = float(np.abs(direction).max()) or 1.0
    short = np.rint(direction / scale * 2.0**16) / 2.0**16
    u = [Fraction(value) for value in short.tolist()]
    if region.ball is None or region.centre is None:
        return Affine.zero(0, len(u))
    length = root_up(sum((value * value for value in u), Fraction(0)))
    along = sum((a * b for a, b in zip(u, region.centre, strict=True)), Fraction(0))
    return Affine.from_fractions([[-value for value in u]], [region.ball.eps * length + along])


def root_up(square: Fraction) -> Fraction:
    """A rational at or above the square root, within 2^-64 of it."""
    scaled = square.numerator * (1 << 128) // square.denominator + 1
    return Fraction(math.isqrt(scaled) + 1, 1 << 64)
