"""Searching the region for a witness in float64: ascent on the violation, then least distances.

Nothing is believed: what is found is checked exactly by whoever asked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from relaxcert.smt.local import (
    Piece,
    deciding_atoms,
    piece_at,
    row_gradients,
    row_values,
    tree_value,
)
from relaxcert.smt.problem import Problem
from relaxcert.smt.query import Exact

Floats = NDArray[np.float64]
_STEPS = 24
_RANDOM = 4
_WALKS = 6  # linear pieces that are tried one after another


def search(problem: Problem, *, seed: int = 0) -> Exact | None:
    """A witness, or None if none was found."""
    if not problem.atoms:
        return problem.witness_near(problem.middle)
    points = _ascend(problem, _starts(problem, seed))
    found = problem.first_witness(points)
    ball = problem.query.region.ball
    if found is not None or ball is None or ball.norm != "l2":
        return found
    scores = problem.nearness(points)
    for place in np.argsort(-scores)[:2]:
        found = walk(problem, points[place])
        if found is not None:
            return found
    return None


def walk(problem: Problem, point: Floats) -> Exact | None:
    """From piece to piece, each time to the violating point that is nearest to the centre (l2)."""
    ball = problem.query.region.ball
    radius = float(ball.eps) if ball is not None else np.inf
    for _ in range(_WALKS):
        offset = nearest_violation(problem, point)
        if offset is None:
            return None
        following = problem.middle + offset
        if np.linalg.norm(offset) <= radius * (1 + 1e-9):
            found = problem.witness_near(following)
            if found is not None:
                return found
        if np.abs(following - point).max() <= 1e-12 * (1.0 + np.abs(point).max()):
            return None
        point = following
    return None


def nearest_violation(
    problem: Problem, point: Floats, within: NDArray[np.bool_] | None = None
) -> Floats | None:
    """The least l2 offset from the centre to a violation in the linear piece of ``point``.

    min ||d|| subject to G d >= h, by non-negative least squares (Lawson & Hanson 1974, chapter
    23): with u >= 0 nearest to (0, ..., 0, 1) in the span of the columns of (G'; h'), the residual
    gives d. Pieces where the constraints cannot hold give None.

    Args:
        point: where to linearise, (inputs,).
        within: the units whose side is held, (units,); the others are free (they are stable).
    """
    with np.errstate(all="ignore"):
        piece = piece_at(problem.network, problem.float_rows, point)
        directions, limits = _constraints(problem, piece, point, within)
        if not (np.isfinite(directions).all() and np.isfinite(limits).all()):
            return None
        table = np.concatenate([directions.T, limits[None]])
        target = np.zeros(len(table))
        target[-1] = 1.0
        try:
            weights, _ = nnls(table, target, maxiter=20 * table.shape[1])
        except RuntimeError:  # no convergence
            return None
        residual = table @ weights - target
        if abs(residual[-1]) < 1e-14:
            return None
        offset = -residual[:-1] / residual[-1]
    return offset if np.isfinite(offset).all() else None


def _constraints(
    problem: Problem, piece: Piece, point: Floats, within: NDArray[np.bool_] | None
) -> tuple[Floats, Floats]:
    """G d >= h: the units keep their sides, the atoms that decide hold; rows of length 1."""
    values = piece.rows[0] @ point + piece.rows[1]
    chosen = deciding_atoms(problem.violation, values, problem.index.__getitem__)
    chosen_list = sorted(chosen)
    sign = np.where(piece.active, 1.0, -1.0)
    weights, offset = piece.units
    held = np.ones(len(sign), dtype=bool) if within is None else within
    sides = (weights * sign[:, None])[held], (offset * sign)[held]
    directions = np.concatenate([sides[0], piece.rows[0][chosen_list]])
    constants = np.concatenate([sides[1], piece.rows[1][chosen_list]])
    length = np.linalg.norm(directions, axis=1)
    kept = length > 1e-12
    directions = directions[kept] / length[kept, None]
    limits = -(constants[kept] / length[kept]) - directions @ problem.middle
    # A hair inside, so that rounding does not undo it.
    return directions, limits + 1e-11 * (1.0 + np.abs(limits))


def _starts(problem: Problem, seed: int) -> Floats:
    """The centre, a long step towards each atom, and random points."""
    count = len(problem.atoms)
    centre = np.repeat(problem.middle[None], count, axis=0)
    towards = row_gradients(problem.network, problem.float_rows, centre, np.arange(count))
    generator = np.random.default_rng(seed)
    random = generator.standard_normal((_RANDOM, len(problem.middle))) * problem.half
    steps = np.concatenate([_steepest(problem, towards), random])
    return np.concatenate([problem.middle[None], _project(problem, problem.middle + steps)])


def _ascend(problem: Problem, points: Floats) -> Floats:
    best, highest = points, problem.nearness(points)
    for step in range(_STEPS):
        if highest.max() > 0:
            break
        values = row_values(problem.network, problem.float_rows, points)
        score, atom = tree_value(problem.violation, values, problem.index.__getitem__)
        better = score > highest
        best, highest = np.where(better[:, None], points, best), np.maximum(score, highest)
        gradient = row_gradients(problem.network, problem.float_rows, points, atom)
        length = max(0.02, 1.0 - step / _STEPS)
        points = _project(problem, points + length * _steepest(problem, gradient))
    score = problem.nearness(points)
    return np.where((score > highest)[:, None], points, best)


def _steepest(problem: Problem, gradients: Floats) -> Floats:
    """The step across the region along which each linear function rises fastest."""
    ball = problem.query.region.ball
    if ball is None:
        return np.sign(gradients) * problem.half
    if ball.norm == "l2":
        length = np.linalg.norm(gradients, axis=1, keepdims=True) + 1e-300
        return gradients / length * float(ball.eps)
    largest = np.abs(gradients).argmax(1)
    steps = np.zeros_like(gradients)
    index = np.arange(len(gradients))
    steps[index, largest] = np.sign(gradients[index, largest]) * float(ball.eps)
    return steps


def _project(problem: Problem, points: Floats) -> Floats:
    """Into the region: clipped to the box, scaled into the ball."""
    return into_region(problem, points)


def into_region(problem: Problem, points: Floats) -> Floats:
    """The points clipped to the box and scaled into the ball, to within rounding."""
    offset = np.clip(points - problem.middle, -problem.half, problem.half)
    ball = problem.query.region.ball
    if ball is not None:
        length = np.linalg.norm(offset, 1 if ball.norm == "l1" else 2, axis=1, keepdims=True)
        offset = offset * np.minimum(1.0, float(ball.eps) / np.maximum(length, 1e-300))
    moved = problem.middle + offset
    lower = [float(value) for value in problem.query.region.lower]
    upper = [float(value) for value in problem.query.region.upper]
    return np.clip(moved, lower, upper)
