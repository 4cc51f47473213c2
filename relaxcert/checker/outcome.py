"""What a check can end in: accepted, rejected at a step, or not readable at all."""

from __future__ import annotations

from dataclasses import dataclass


class Unreadable(Exception):
    """A file that cannot be checked: missing, malformed, of another kind, or beyond this checker.

    Says nothing about the claims; exit status 2.
    """


class Rejected(Exception):
    """A claim that is not proved, or an artefact that is not the one the claims speak of.

    Attributes:
        step: the first wrong step: ``seal``, ``property``, ``weights``, ``inputs``,
            ``bound of LAYER (NORM)``, ``input``, ``margin``, ``radius``, ``set``.
        point: row of the data, for the last four; else None.
    """

    def __init__(self, step: str, reason: str, point: int | None = None) -> None:
        where = step if point is None else f"point {point}: {step}"
        super().__init__(f"{where}: {reason}")
        self.step = step
        self.point = point


@dataclass(frozen=True, slots=True)
class Accepted:
    """All claims are proved; ``certified`` of ``points`` rows of the data are covered."""

    points: int
    certified: int
    property: str
    digest: str
    weights: str
