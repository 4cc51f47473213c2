"""The encounter of two aircraft as a Markov decision process: states, dynamics, rewards.

Constants and formulas: Julian & Kochenderfer, *Guaranteeing Safety for Neural Network-Based
Aircraft Collision Avoidance Systems*, DASC 2019, as published in the authors' HorizontalCAS project
(MIT licence), for aircraft at the same altitude (tau = 0).

A state is (rho, theta, psi, previous advisory) at fixed speeds: distance in feet, bearing of the
intruder and its heading relative to the own one in radians, both counter-clockwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COC, WL, WR, SL, SR = range(5)
CLASS_NAMES = (
    "clear of conflict",
    "weak left",
    "weak right",
    "strong left",
    "strong right",
)
# Seen in a mirror, left is right: theta -> -theta, psi -> -psi, and the advisories change sides.
MIRRORED = (COC, WR, WL, SR, SL)
_STRENGTH = (0, 1, 1, 2, 2)
_SENSE = (0, 1, -1, 1, -1)

# fmt: off
RANGES: Array = np.array([  # feet
    0, 25, 50, 75, 100, 150, 200, 300, 400, 500, 510, 750, 1000, 1500, 2000, 3000, 4000, 5000,
    7000, 9000, 11000, 13000, 15000, 17000, 19000, 21000, 25000, 30000, 35000, 40000, 48000, 56000,
], dtype=np.float64)
# fmt: on
ONE_SPEED: Array = np.array([200.0])  # feet per second
THREE_SPEEDS: Array = np.array([100.0, 250.0, 400.0])

# Turn rates, degrees per second, and their probabilities (sigma points).
_NONE = ((0.34, 0.33, 0.33), (0.0, 1.5, -1.5))
_WEAK, _STRONG = (1.5, 2.0, 1.25), (3.0, 4.0, 2.0)
_DEGREES = {
    COC: _NONE,
    WL: ((0.5, 0.25, 0.25), _WEAK),
    WR: ((0.5, 0.25, 0.25), tuple(-rate for rate in _WEAK)),
    SL: ((0.5, 0.25, 0.25), _STRONG),
    SR: ((0.5, 0.25, 0.25), tuple(-rate for rate in _STRONG)),
}


def turns(advisory: int) -> tuple[Array, Array]:
    """Probabilities (3,) and turns within one second in radians (3,), under an advisory.

    The intruder, who has none, turns as under clear of conflict.
    """
    probabilities, degrees = _DEGREES[advisory]
    return np.array(probabilities), np.deg2rad(degrees)


def moved(rho: Array, theta: Array, psi: Array, own: float, intruder: float) -> tuple[Array, Array]:
    """Distance and bearing after one second of straight flight, before both turn.

        (x, y) = (rho cos theta + v_int cos psi - v_own, rho sin theta + v_int sin psi)

    Shapes broadcast; ``own`` and ``intruder`` are speeds in feet per second. A turn by a afterwards
    changes the bearing by -a, and the relative heading by -a of the own and +a of the intruder.
    """
    x = rho * np.cos(theta) + intruder * np.cos(psi) - own
    y = rho * np.sin(theta) + intruder * np.sin(psi)
    return np.hypot(x, y), np.arctan2(y, x)


def wrapped(angle: Array) -> Array:
    """The same direction in [-pi, pi]."""
    return angle - 2 * np.pi * np.round(angle / (2 * np.pi))


def closest_approach(
    rho: Array, theta: Array, psi: Array, own: float, intruder: float
) -> tuple[Array, Array]:
    """Distance (feet) and time (seconds, never negative) of the closest approach on straight lines.

    t = max(0, -(p . v) / (v . v)),  d = |p + t v|, with p the relative position, v the velocity.
    """
    x, y = rho * np.cos(theta), rho * np.sin(theta)
    dx, dy = intruder * np.cos(psi) - own, intruder * np.sin(psi)
    squared = dx**2 + dy**2
    parallel = squared == 0
    time = np.maximum(-(x * dx + y * dy) / np.where(parallel, 1.0, squared), 0.0)
    time = np.where(parallel, 0.0, time)
    return np.hypot(x + time * dx, y + time * dy), time


def proximity(rho: Array) -> Array:
    """-1 within 500 feet, -exp(-(rho - 500) / 500) beyond."""
    return -np.exp(-np.maximum(rho - 500.0, 0.0) / 500.0)


def missing_alert(distance: Array, time: Array, previous: int) -> Array:
    """What clear of conflict costs: -0.01 exp(-d / 500) exp(-t / 10) / f."""
    return -1e-2 * np.exp(-distance / 500.0) * np.exp(-time / 10.0) / _factor(previous)


def alert(advisory: int, previous: int) -> float:
    """What an advisory to turn costs, given the previous advisory.

    -5e-4 f, a strong one -2e-3 f more; and for a change: -5e-2 from left to right or back,
    otherwise -1e-3 for a stronger advisory (any, after none), -2e-4 for a weaker one.
    """
    reward = -5e-4 * _factor(previous)
    if _STRENGTH[advisory] == 2:
        reward -= 2e-3 * _factor(previous)
    if _SENSE[advisory] * _SENSE[previous] < 0:
        return reward - 5e-2
    change = _STRENGTH[advisory] - _STRENGTH[previous]
    return reward - (1e-3 if change > 0 else 2e-4 if change < 0 else 0.0)


def _factor(previous: int) -> float:
    return 1.0 if previous == COC else 0.1
