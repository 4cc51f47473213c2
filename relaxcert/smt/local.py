"""The network in plain float64 at points and on the linear region around a point.

Nothing here proves anything: it is for guessing witnesses and cuts, which are checked exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxcert.smt.float_network import FloatMap, FloatNetwork
from relaxcert.smt.formula import Atom, Constraint, Every

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Piece:
    """The affine functions of x on the linear region around a point.

    Attributes:
        units: weights (units, inputs) and offset (units,) of every z, all stages together.
        rows: the same for the rows asked for.
        active: which units are on, (units,) bool.
    """

    units: tuple[Floats, Floats]
    rows: tuple[Floats, Floats]
    active: NDArray[np.bool_]


def row_values(network: FloatNetwork, rows: FloatMap, points: Floats) -> Floats:
    """The rows at points; (points, inputs) -> (points, rows)."""
    state = points
    for stage in network.stages:
        units = np.maximum(state @ stage.pre.matrix.T + stage.pre.offset, 0.0)
        state = state @ stage.skip.matrix.T + stage.skip.offset + units @ stage.gain.matrix.T
    return state @ rows.matrix.T + rows.offset


def row_gradients(
    network: FloatNetwork, rows: FloatMap, points: Floats, chosen: NDArray[np.int64]
) -> Floats:
    """Gradient of one row for each point; (points, inputs), (points,) -> (points, inputs)."""
    state, active = points, list[NDArray[np.bool_]]()
    for stage in network.stages:
        z = state @ stage.pre.matrix.T + stage.pre.offset
        active.append(z > 0)
        units = np.maximum(z, 0.0)
        state = state @ stage.skip.matrix.T + stage.skip.offset + units @ stage.gain.matrix.T
    gradient = rows.matrix[chosen]
    for stage, on in zip(reversed(network.stages), reversed(active), strict=True):
        followed = (gradient @ stage.gain.matrix) * on
        gradient = gradient @ stage.skip.matrix + followed @ stage.pre.matrix
    return gradient


def piece_at(network: FloatNetwork, rows: FloatMap, point: Floats) -> Piece:
    """Linearise at one point, (inputs,)."""
    weights, offset = np.eye(len(point)), np.zeros(len(point))
    unit_weights, unit_offsets, active = list[Floats](), list[Floats](), list[NDArray[np.bool_]]()
    for stage in network.stages:
        z_weights = stage.pre.matrix @ weights
        z_offset = stage.pre.matrix @ offset + stage.pre.offset
        on = z_weights @ point + z_offset > 0
        unit_weights.append(z_weights)
        unit_offsets.append(z_offset)
        active.append(on)
        weights = stage.skip.matrix @ weights + (stage.gain.matrix * on) @ z_weights
        offset = (
            stage.skip.matrix @ offset + stage.skip.offset + (stage.gain.matrix * on) @ z_offset
        )
    nothing = np.zeros((0, len(point)))
    return Piece(
        (np.concatenate([nothing, *unit_weights]), np.concatenate([np.zeros(0), *unit_offsets])),
        (rows.matrix @ weights, rows.matrix @ offset + rows.offset),
        np.concatenate([np.zeros(0, dtype=bool), *active]),
    )


def tree_value(
    constraint: Constraint, values: Floats, place: Callable[[Atom], int]
) -> tuple[Floats, NDArray[np.int64]]:
    """How nearly the constraint holds at points (>= 0: it does), and the atom that decides.

    Every is the minimum, Some the maximum of its parts; (points, atoms) -> (points,) twice.
    """
    if isinstance(constraint, Atom):
        index = place(constraint)
        return values[:, index], np.full(len(values), index, dtype=np.int64)
    if not constraint.parts:
        extreme = np.inf if isinstance(constraint, Every) else -np.inf
        return np.full(len(values), extreme), np.zeros(len(values), dtype=np.int64)
    parts = [tree_value(part, values, place) for part in constraint.parts]
    stack = np.stack([value for value, _ in parts])
    best = stack.argmin(0) if isinstance(constraint, Every) else stack.argmax(0)
    index = np.arange(len(values))
    return stack[best, index], np.stack([atom for _, atom in parts])[best, index]


def deciding_atoms(
    constraint: Constraint, values: Floats, place: Callable[[Atom], int]
) -> frozenset[int]:
    """A set of atoms that together make the constraint true: the most likely one; (atoms,)."""
    if isinstance(constraint, Atom):
        return frozenset({place(constraint)})
    if isinstance(constraint, Every):
        return frozenset[int]().union(
            *(deciding_atoms(part, values, place) for part in constraint.parts)
        )
    scored = [tree_value(part, values[None], place)[0][0] for part in constraint.parts]
    if not scored:
        return frozenset()
    return deciding_atoms(constraint.parts[int(np.argmax(scored))], values, place)
