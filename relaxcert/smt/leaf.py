"""Asking the solver about one box: rounded first, exactly only where that leaves a doubt.

For an l2 ball the box is cut down by tangent half-spaces ``u . (x - c) <= eps ||u||``, valid for
any u. A model outside the ball is first repaired (the nearest violation in its linear piece); if
that lies outside too, it gives the next cut, which removes the whole piece.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from relaxcert.errors import RelaxcertError
from relaxcert.smt.affine import Affine
from relaxcert.smt.encode import Cell, Encoded, encode
from relaxcert.smt.forms import Arithmetic, ExactArithmetic, RoundedArithmetic
from relaxcert.smt.formula import holds
from relaxcert.smt.problem import Problem
from relaxcert.smt.query import Clock, Exact
from relaxcert.smt.search import nearest_violation, walk
from relaxcert.smt.solver import Solver

Floats = NDArray[np.float64]
_ROUNDS = 40  # of cuts
_BITS = (12, 24, 44)  # of the numbers in rounded rows: short ones are fast
# A box that can be cut in two instead gets little: short numbers, few cuts, little time.
_EARLY_ROUNDS, _EARLY_SECONDS, _EARLY_RLIMIT = 6, 0.5, 200_000
_TOO_NEAR = "a violation or a near miss: irrational scales (BatchNorm) hide which"
_NEARLY = 1e-9  # violations so near that only exact arithmetic tells


class EncodingFault(RelaxcertError, RuntimeError):
    """The exact encoding has a model that is no witness: encoder or solver is wrong."""


@dataclass(frozen=True, slots=True)
class LeafAnswer:
    """Proved, or a witness, or neither with the reason."""

    proved: bool = False
    witness: Exact | None = None
    reason: str = ""


def ask(
    problem: Problem, cell: Cell, solver: Solver, clock: Clock, *, divisible: bool
) -> LeafAnswer:
    """Decide one box; ``divisible`` boxes are given up early, since they can be cut in two.

    Raises:
        EncodingFault: an exact model that does not violate when it is evaluated.
    """
    return _Leaf(problem, cell, solver, clock, divisible).run()


class _Leaf:
    def __init__(
        self, problem: Problem, cell: Cell, solver: Solver, clock: Clock, divisible: bool
    ) -> None:
        self.problem, self.cell, self.solver, self.clock = problem, cell, solver, clock
        self.divisible = divisible
        budget = clock.budget
        self.rlimit = min(_EARLY_RLIMIT, budget.rlimit) if divisible else budget.rlimit
        self.rounds = _EARLY_ROUNDS if divisible else _ROUNDS
        ball = problem.query.region.ball
        self.round_ball = ball is not None and ball.norm == "l2"
        self.cuts: list[Affine] = []
        self.offsets: list[Floats] = []  # what the cuts were made from
        nothing = np.zeros(0)
        low = np.concatenate([nothing, *cell.lower])
        self.opened = (low < 0) & (np.concatenate([nothing, *cell.upper]) > 0)
        self.doubtful = False  # a model so near to a violation that rounding hides the truth

    def run(self) -> LeafAnswer:
        """Rounded numbers first; sharper ones where those cannot tell and nothing else can."""
        answer = LeafAnswer()
        exact = ExactArithmetic(self.problem.query.network)
        rounded = [RoundedArithmetic(self.problem.network, bits) for bits in _BITS]
        for arithmetic in (*rounded, exact):
            answer, final = self._attempt(arithmetic)
            if final or (self.divisible and not self.doubtful):
                break
            self.doubtful = False
        return answer

    def _attempt(self, arithmetic: Arithmetic) -> tuple[LeafAnswer, bool]:
        """The answer, and whether it is final: sharper arithmetic cannot do better."""
        exact = isinstance(arithmetic, ExactArithmetic)
        for _ in range(self.rounds):
            if self.clock.up:
                return LeafAnswer(reason="timeout"), True
            encoded = self._encoded(arithmetic)
            reply = self.solver.check(encoded.script, seconds=self._seconds(), rlimit=self.rlimit)
            if reply.status != "sat":
                return LeafAnswer(proved=reply.status == "unsat", reason=reply.reason), True
            point = encoded.point(dict(reply.model))
            witness = self.problem.witness_at(point)
            inside = exact and self.problem.query.region.contains(point)
            if witness is None and inside and not self._possible_at(point):
                raise EncodingFault(
                    "the exact encoding has a model that is no witness when it is evaluated: the "
                    f"encoder or the solver {self.solver.name} is at fault; please report the "
                    "network and the point."
                )
            if witness is None and inside:
                return LeafAnswer(reason=_TOO_NEAR), True
            if witness is None and self.round_ball:
                witness = self._repair_or_cut(point)
            elif witness is None:
                self.doubtful = self._nearly(point)
                return LeafAnswer(reason="the rounded encoding cannot tell"), False
            if witness is not None:
                return LeafAnswer(witness=witness), True
            if self.doubtful:
                return LeafAnswer(reason="the rounded encoding cannot tell"), False
        return LeafAnswer(reason=f"no decision after {self.rounds} cuts of the l2 ball"), False

    def _encoded(self, arithmetic: Arithmetic) -> Encoded:
        problem, query = self.problem, self.problem.query
        return encode(
            arithmetic,
            self.cell,
            query.region,
            problem.violation,
            problem.atoms,
            problem.rows,
            self.cuts,
        )

    def _possible_at(self, point: Sequence[Fraction]) -> bool:
        """Whether the chain's logits violate, up to the distance that it states."""
        return holds(self.problem.violation, self.problem.query.network.logits(point))

    def _seconds(self) -> float:
        left = max(0.001, self.clock.left)
        return min(left, _EARLY_SECONDS) if self.divisible else left

    def _nearly(self, point: Sequence[Fraction]) -> bool:
        start = np.array([[float(value) for value in point]])
        return bool(self.problem.nearness(start)[0] > -_NEARLY)

    def _repair_or_cut(self, point: Sequence[Fraction]) -> Exact | None:
        problem = self.problem
        start = np.array([float(value) for value in point])
        offset = nearest_violation(problem, start, self.opened)
        if offset is not None:
            witness = walk(problem, problem.middle + offset)
            if witness is not None:
                return witness
            # A piece that was cut off already comes back only because of rounding.
            self.doubtful = any(_close(offset, before) for before in self.offsets)
            self.offsets.append(offset)
            self.cuts.append(tangent(problem, offset))
        radial = start - problem.middle
        ball = problem.query.region.ball
        if ball is not None and (offset is None or np.linalg.norm(offset) <= float(ball.eps)):
            self.cuts.append(tangent(problem, radial))
        return None


def _close(left: Floats, right: Floats) -> bool:
    return bool(np.abs(left - right).max() <= 1e-4 * np.abs(right).max())


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
