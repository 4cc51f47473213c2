"""Value iteration with sparse matrices: the decision process solved from scratch, in seconds.

One second on, distance and bearing hang on the state alone and the turns of the own aircraft, of
which there are three, i; the relative heading on psi and both turns. With p the previous advisory,

    (T_p V)(rho, theta, psi) = sum_i P_i [A_i (V W_i)](rho, theta, psi),

where W_i, small and dense, averages over the intruder's turns along the axis psi, and A_i, sparse,
interpolates in (rho, theta). A full transition matrix would have six times as many entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from relaxcert.data.hcas import model
from relaxcert.data.hcas.interpolation import cell
from relaxcert.errors import DataError

Array = NDArray[np.float64]
State = tuple[Array, Array, Array]  # rho, theta, psi at each grid point

# The largest change of a value in the last sweep. It need not go to 0: an advisory that is kept up
# costs 5e-5 a second, for ever.
TOLERANCE = 1e-4
SWEEPS = 500
# The others follow by symmetry.
_SOLVED = (model.COC, model.WL, model.SL)
_BRANCHES = 3  # turns of the own aircraft


@dataclass(frozen=True)
class Solution:
    """Action values of one pair of speeds.

    Attributes:
        values: (previous advisory, advisory, rho, theta, psi), float32; larger is better.
        sweeps: how many sweeps it took.
        change: the largest change of a state's value in the last one.
    """

    values: NDArray[np.float32]
    sweeps: int
    change: float


def solve(
    ranges: Array,
    angles: Array,
    own: float,
    intruder: float,
    *,
    after_sweep: Callable[[int, float], object] = lambda sweep, change: None,
) -> Solution:
    """Solve for one pair of speeds (feet per second), undiscounted.

    Args:
        ranges: grid of rho, feet, increasing.
        angles: grid of theta and psi, symmetric, from -pi to pi.
        own: speed of the own aircraft.
        intruder: speed of the intruder.
        after_sweep: called with the number of the sweep and the largest change.

    Raises:
        DataError: no convergence within 500 sweeps.
    """
    shape = (len(ranges), len(angles), len(angles))
    rho, theta, psi = np.meshgrid(ranges, angles, angles, indexing="ij")
    state = (rho, theta, psi)
    rewards = {p: _rewards(state, own, intruder, p) for p in _SOLVED}
    steps = {p: _Step(ranges, angles, state, own, intruder, p) for p in _SOLVED}
    best = np.zeros((5, *shape))
    change = np.inf
    for sweep in range(1, SWEEPS + 1):
        following = {p: rewards[p] + steps[p](best) for p in _SOLVED}
        updated = _every_advisory({p: values.max(0) for p, values in following.items()})
        change = float(np.abs(updated - best).max())
        best = updated
        after_sweep(sweep, change)
        if change <= TOLERANCE:
            values = _every_advisory_and_action(following)
            return Solution(values.astype(np.float32), sweep, change)
    raise DataError(
        f"the decision process for speeds {own:g} and {intruder:g} did not converge in {SWEEPS} "
        f"sweeps (last change {change:.2g}): use a finer grid of angles."
    )


class _Step:
    """V -> T_p V for one previous advisory; keeps the shape (advisory, rho, theta, psi)."""

    def __init__(
        self,
        ranges: Array,
        angles: Array,
        state: State,
        own: float,
        intruder: float,
        previous: int,
    ) -> None:
        probabilities, turned = model.turns(previous)
        rho, bearing = model.moved(*state, own, intruder)
        self.turn_headings = np.concatenate([_heading_matrix(angles, -a) for a in turned]).T
        places = [
            _place_matrix(ranges, angles, rho, model.wrapped(bearing - turn), branch) * probability
            for branch, (probability, turn) in enumerate(zip(probabilities, turned, strict=True))
        ]
        self.interpolate = sum(places[1:], places[0])

    def __call__(self, best: Array) -> Array:
        """One expectation for each advisory that was chosen."""
        # (advisory, rho, theta, branch and psi): the branches lie side by side in the last axis.
        turned = best.reshape(-1, best.shape[3]) @ self.turn_headings
        rows = turned.reshape(len(best), -1)
        return np.stack([self.interpolate @ row for row in rows]).reshape(best.shape)


def _heading_matrix(angles: Array, own: float) -> Array:
    """W: rows are psi now, columns the grid of psi after both turned; dense (angles, angles)."""
    weights = np.zeros((len(angles), len(angles)))
    rows = np.arange(len(angles))
    for probability, turn in zip(*model.turns(model.COC), strict=True):
        lower, upper = cell(angles, model.wrapped(angles + own + turn))
        np.add.at(weights, (rows, lower), probability * (1.0 - upper))
        np.add.at(weights, (rows, lower + 1), probability * upper)
    return weights


def _place_matrix(
    ranges: Array, angles: Array, rho: Array, theta: Array, branch: int
) -> sparse.csr_array:
    """Bilinear interpolation in (rho, theta) within one branch, psi as it is; 4 entries a row."""
    (low_rho, up_rho), (low_theta, up_theta) = cell(ranges, rho), cell(angles, theta)
    width = _BRANCHES * len(angles)
    heading = branch * len(angles) + np.arange(len(angles))
    corners, weights = [], []
    for side_rho in (0, 1):
        for side_theta in (0, 1):
            place = (low_rho + side_rho) * len(angles) + low_theta + side_theta
            corners.append(place * width + heading)
            weights.append(
                (up_rho if side_rho else 1.0 - up_rho)
                * (up_theta if side_theta else 1.0 - up_theta)
            )
    states = rho.size
    # 32 bits suffice, and are faster.
    columns = np.stack(corners, axis=-1).reshape(-1).astype(np.int32)
    entries = np.stack(weights, axis=-1).reshape(-1)
    starts = np.arange(0, 4 * states + 1, 4, dtype=np.int32)
    return sparse.csr_array((entries, columns, starts), shape=(states, _BRANCHES * states))


def _rewards(state: State, own: float, intruder: float, previous: int) -> Array:
    """(advisory, rho, theta, psi)."""
    distance, time = model.closest_approach(*state, own, intruder)
    advisories = [
        model.missing_alert(distance, time, previous)
        if advisory == model.COC
        else np.full_like(distance, model.alert(advisory, previous))
        for advisory in range(5)
    ]
    return np.stack(advisories) + model.proximity(state[0])


def _mirrored(values: Array) -> Array:
    """The same at -theta, -psi; shape (..., theta, psi)."""
    return values[..., ::-1, ::-1]


def _every_advisory(solved: dict[int, Array]) -> Array:
    """State values for all five previous advisories, (5, rho, theta, psi), from the solved ones."""
    return np.stack(
        [solved[p] if p in solved else _mirrored(solved[model.MIRRORED[p]]) for p in range(5)]
    )


def _every_advisory_and_action(solved: dict[int, Array]) -> Array:
    """Action values likewise; in the mirror the actions change sides too."""
    return np.stack(
        [
            solved[p] if p in solved else _mirrored(solved[model.MIRRORED[p]])[list(model.MIRRORED)]
            for p in range(5)
        ]
    )
