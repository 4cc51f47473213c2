"""A VNN-LIB 1.0 file judged on a network by the exact SMT backend."""

from __future__ import annotations

import time
from fractions import Fraction

from relaxcert.errors import InvalidInput
from relaxcert.interop.vnnlib.linear import Case, VnnLibQuery
from relaxcert.smt import Atom, Budget, ExactNetwork, Query, Region, Solver, decide, solver_named
from relaxcert.smt.formula import Constraint, every, some
from relaxcert.spec.verdict import CERTIFIED, Answer, Verdict, unknown


def check_vnnlib(
    network: ExactNetwork,
    query: VnnLibQuery,
    *,
    budget: Budget | float | str = 10.0,
    solver: str | Solver = "z3",
) -> Verdict:
    """Is there an input that the file asks for? Files state violations.

    The file speaks of the network's own inputs and outputs: where its convention is that the
    smallest score is best, give the network with its scores as they are.

    Args:
        network: the exact network.
        query: a file's content.
        budget: for the whole file.
        solver: a backend or its name.

    Returns:
        CERTIFIED: there is none (UNSAT). FALSIFIED: one, exact and checked exactly (SAT). UNKNOWN:
        with the limit that was hit.

    Raises:
        InvalidInput: the file has another number of inputs or outputs, or a budget of 0.
    """
    found, expected = (query.num_inputs, query.num_outputs), (network.inputs, network.classes)
    if found != expected:
        raise InvalidInput(
            f"the file declares {found[0]} inputs and {found[1]} outputs, the network has "
            f"{expected[0]} and {expected[1]}: give the network that the file was written for."
        )
    limits, backend = Budget.of(budget), solver_named(solver)
    end = time.monotonic() + limits.seconds
    doubt: Verdict | None = None
    for case in query.cases:
        left = end - time.monotonic()
        if left <= 0:
            return unknown(f"timeout: {limits.seconds:g} s were not enough")
        verdict = _decided(network, case, Budget(left, limits.boxes, limits.rlimit), backend)
        if verdict.answer is Answer.FALSIFIED:
            return verdict
        if verdict.answer is Answer.UNKNOWN and doubt is None:
            doubt = verdict
    return CERTIFIED if doubt is None else doubt


def _decided(network: ExactNetwork, case: Case, budget: Budget, solver: Solver) -> Verdict:
    region = Region(tuple(side.low for side in case.box), tuple(side.high for side in case.box))
    return decide(Query(network, region, constraint_of(case)), budget, solver)


def constraint_of(case: Case) -> Constraint:
    """The outputs that a case asks for, as the SMT backend states it."""
    return some(
        [
            every(
                [
                    Atom(inequality.coefficients, Fraction(inequality.constant))
                    for inequality in conjunction
                ]
            )
            for conjunction in case.outputs
        ]
    )
