"""Auditing the judge: does what it computes with agree with exact evaluation?

A cross-check is worth what the encoder is worth. Three questions, each answered exactly:

1. the exact network's logits at x are those that torch computes, up to float64 rounding;
2. the bounds hold the exact input of every unit at points of the region, among them corners at
   which units of the first stage are extreme;
3. the solver's problem admits those points: with the inputs fixed, each atom is satisfiable
   exactly where it holds (rounded problems: at least there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from relaxcert.smt.affine import Affine
from relaxcert.smt.bounds import Bounds, bounds_over
from relaxcert.smt.deviation import logits_at
from relaxcert.smt.encode import Cell, encode
from relaxcert.smt.float_network import FloatMap
from relaxcert.smt.forms import Arithmetic, ExactArithmetic, RoundedArithmetic
from relaxcert.smt.formula import Atom, some
from relaxcert.smt.network import ExactNetwork, Values
from relaxcert.smt.problem import Problem, float_network
from relaxcert.smt.query import Exact, Query, Region
from relaxcert.smt.solver import Script, Solver
from relaxcert.smt.support import Boxes

Floats = NDArray[np.float64]
_SECONDS = 5.0


def audit(
    network: ExactNetwork,
    region: Region,
    atoms: Sequence[Atom],
    computed: Sequence[float],
    solver: Solver,
    seed: int = 0,
) -> str:
    """What is wrong, or an empty text.

    Args:
        network: the exact network.
        region: the ball that is judged.
        atoms: atoms of the violation.
        computed: the logits at the region's middle as torch computed them in float64.
        solver: the backend.
        seed: of the sampled points.
    """
    fault = logits_fault(network, region.middle, computed)
    if fault or not atoms:
        return fault
    query = Query(network, region, some(list(atoms)))
    if query.possible is None:
        return ""
    problem = Problem(query)
    boxes = Boxes.around(region)
    bounds = bounds_over(problem.network, boxes, problem.float_rows)
    points = _samples(problem, seed)
    for point in points:
        fault = bounds_fault(bounds, network.run(point))
        if fault:
            return fault
    return _encoding_fault(problem, boxes, bounds, points[-1], solver)


def logits_fault(network: ExactNetwork, point: Exact, computed: Sequence[float]) -> str:
    """Compare exact logits with torch's; both differ from the truth by less than the bounds."""
    found = logits_at(network, point)
    if found is None:
        return ""
    exact = found.values
    numbers = [float(value) for value in point]
    if len(exact) != len(computed) or not np.isfinite(computed).all():
        return f"the network has {len(computed)} finite logits, the exact one {len(exact)}"
    here = Boxes(np.array([numbers]), np.array([numbers]))
    rows = FloatMap.of(Affine.identity(network.classes) @ network.output)
    bounds = bounds_over(float_network(network), here, rows)
    allowed = 4 * (bounds.highest - bounds.lowest)[0] + 1e-300
    for label, (value, other) in enumerate(zip(exact, computed, strict=True)):
        least = Fraction(float(allowed[label])) + found.doubt[label]
        if abs(value - Fraction(float(other))) > least:
            return (
                f"the exact network gives logit {float(value):.17g} for class {label} at x, torch "
                f"computed {other:.17g}: more than rounding explains"
            )
    return ""


def bounds_fault(bounds: Bounds, values: Values) -> str:
    """Whether every unit's exact input lies within the first box's bounds."""
    for stage, (low, high, point) in enumerate(
        zip(bounds.lower, bounds.upper, values.pre, strict=True)
    ):
        for unit, value in enumerate(point.fractions()):
            below = np.isfinite(low[0, unit]) and value < Fraction(float(low[0, unit]))
            above = np.isfinite(high[0, unit]) and value > Fraction(float(high[0, unit]))
            if below or above:
                return (
                    f"unit {unit} of stage {stage} takes {float(value):.17g} in the region, outside"
                    f" its bounds [{low[0, unit]:.17g}, {high[0, unit]:.17g}]"
                )
    return ""


def _samples(problem: Problem, seed: int) -> list[Exact]:
    """The centre, and points of the region's border, exact and inside."""
    generator = np.random.default_rng(seed)
    region, network = problem.query.region, problem.query.network
    found = [region.middle]
    for stage in network.stages[:1]:
        if not stage.pre.rows:
            continue
        unit = int(generator.integers(stage.pre.rows))
        found.append(_extreme(region, [int(w) for w in stage.pre.matrix[unit]]))
        found.append(_extreme(region, [-int(w) for w in stage.pre.matrix[unit]]))
    signs = generator.choice([-1, 1], size=network.inputs)
    found.append(_extreme(region, [int(s) for s in signs]))
    return [point for point in found if region.contains(point)]


def _extreme(region: Region, weights: Sequence[int]) -> Exact:
    """About the point of the region at which the linear function is largest (boxes: exactly it)."""
    if region.ball is None or region.centre is None:
        sides = zip(region.lower, region.upper, weights, strict=True)
        return tuple(high if weight > 0 else low for low, high, weight in sides)
    if region.ball.norm == "l1":
        place = max(range(len(weights)), key=lambda i: abs(weights[i]))
        step = region.ball.eps if weights[place] > 0 else -region.ball.eps
        return tuple(c + step if i == place else c for i, c in enumerate(region.centre))
    largest = max(abs(weight) for weight in weights) or 1
    direction = np.array([weight / largest for weight in weights])
    length = float(np.linalg.norm(direction)) or 1.0
    steps = direction / length * (1 - 1e-12)
    return tuple(
        c + region.ball.eps * Fraction(step)
        for c, step in zip(region.centre, steps.tolist(), strict=True)
    )


def _encoding_fault(
    problem: Problem, boxes: Boxes, bounds: Bounds, point: Exact, solver: Solver
) -> str:
    cell = Cell(
        boxes.middle[0],
        boxes.radius[0],
        tuple(low[0] for low in bounds.lower),
        tuple(high[0] for high in bounds.upper),
    )
    if not all(np.isfinite(values).all() for values in (*cell.lower, *cell.upper)):
        return ""
    logits = problem.query.network.logits(point)
    place = max(range(len(problem.atoms)), key=lambda i: problem.atoms[i].value(logits))
    atom = problem.atoms[place]
    # Moved so that it just holds, and just fails: the encoding must tell the difference.
    value = atom.value(logits)
    holding = replace(atom, constant=atom.constant - value)
    failing = replace(atom, constant=atom.constant - value - abs(value) / 1024 - Fraction(1, 2**20))
    exact = ExactArithmetic(problem.query.network)
    cases: list[tuple[Arithmetic, Atom, str]] = [
        (RoundedArithmetic(problem.network, 12), holding, "sat"),
        (exact, holding, "sat"),
        (exact, failing, "unsat"),
    ]
    for arithmetic, asked, expected in cases:
        status = _with_inputs_fixed(problem, cell, arithmetic, asked, point, solver)
        if status not in (expected, "unknown"):
            kind = "exact" if isinstance(arithmetic, ExactArithmetic) else "rounded"
            return (
                f"with the inputs fixed, the {kind} problem is {status} for the solver "
                f"{solver.name}, and {expected} by exact evaluation"
            )
    return ""


def _with_inputs_fixed(
    problem: Problem,
    cell: Cell,
    arithmetic: Arithmetic,
    atom: Atom,
    point: Exact,
    solver: Solver,
) -> str:
    asked = Problem(Query(problem.query.network, problem.query.region, atom))
    encoded = encode(
        arithmetic, cell, problem.query.region, asked.violation, asked.atoms, asked.rows
    )
    lines = [encoded.script.text]
    for place, value in enumerate(point):
        middle, radius = Fraction(cell.middle[place]), Fraction(cell.radius[place])
        scaled = (value - middle) / radius
        lines.append(
            f"(assert (= (* {scaled.denominator} d{place}) "
            + (f"{scaled.numerator}" if scaled >= 0 else f"(- {-scaled.numerator})")
            + "))"
        )
    script = Script("\n".join(lines) + "\n", encoded.script.names)
    return solver.check(script, seconds=_SECONDS, rlimit=2_000_000).status
