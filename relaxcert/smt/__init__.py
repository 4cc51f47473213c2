"""Floor 5: SMT. The property as exact questions to a solver, an independent judge of certificates.

``judge`` decides a property at a point, ``decide`` one query; ``register_solver`` adds a backend,
``encodes`` an encoder for a layer of one's own.
"""

from relaxcert.smt import spatial as spatial  # registers its encoders
from relaxcert.smt.branch import Effort, decide
from relaxcert.smt.crosscheck import CrossCheck, crosscheck, crosscheck_all
from relaxcert.smt.encoders import Gate, encodes
from relaxcert.smt.formula import Atom, Constraint, Every, Some, reaches, violation_of
from relaxcert.smt.judge import Evidence, Judgement, PointJudge, judge
from relaxcert.smt.leaf import EncodingFault
from relaxcert.smt.network import ExactNetwork, Stage
from relaxcert.smt.query import Budget, Query, Region
from relaxcert.smt.size import NetworkTooLarge
from relaxcert.smt.solver import (
    Reply,
    Script,
    Solver,
    register_solver,
    solver_named,
    solver_names,
)
from relaxcert.smt.translate import exact_network

__all__ = [
    "Atom",
    "Budget",
    "Constraint",
    "CrossCheck",
    "Effort",
    "EncodingFault",
    "Every",
    "Evidence",
    "ExactNetwork",
    "Gate",
    "Judgement",
    "NetworkTooLarge",
    "PointJudge",
    "Query",
    "Region",
    "Reply",
    "Script",
    "Solver",
    "Some",
    "Stage",
    "crosscheck",
    "crosscheck_all",
    "decide",
    "encodes",
    "exact_network",
    "judge",
    "reaches",
    "register_solver",
    "solver_named",
    "solver_names",
    "violation_of",
]
