"""The three answers that a backend may give about a property at a point."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction


class Answer(Enum):
    """Proved, refuted, or neither; there is no fourth, and unknown is never a proof."""

    CERTIFIED = "certified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer with its evidence.

    Attributes:
        answer: which of the three.
        reason: for UNKNOWN: why no answer was found.
        witness: for FALSIFIED: an x' of the ball at which the property fails, as exact numbers that
            were re-checked in exact arithmetic. A uniform property with several admissible k may
            need a point for each k; then this is the first of them.
    """

    answer: Answer
    reason: str = ""
    witness: tuple[Fraction, ...] | None = None

    def __str__(self) -> str:
        return self.answer.value + (f" ({self.reason})" if self.reason else "")

    def __bool__(self) -> bool:
        raise TypeError("a verdict has three values: compare verdict.answer with Answer.CERTIFIED.")


CERTIFIED = Verdict(Answer.CERTIFIED)


def unknown(reason: str) -> Verdict:
    """A verdict of UNKNOWN with its reason."""
    return Verdict(Answer.UNKNOWN, reason)


def falsified(witness: tuple[Fraction, ...]) -> Verdict:
    """A verdict of FALSIFIED with its witness."""
    return Verdict(Answer.FALSIFIED, witness=witness)
