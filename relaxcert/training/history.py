"""What happened in a training run, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One line of a training history; the figures are on the validation data, where evaluated."""

    epoch: int
    loss: float
    learning_rate: float
    seconds: float
    vra: float | None = None
    rejection_rate: float | None = None
    clean_accuracy: float | None = None


@dataclass(frozen=True)
class History:
    """What happened, epoch by epoch."""

    epochs: tuple[Epoch, ...] = ()

    @property
    def best_vra(self) -> float:
        """The highest validation VRA; -1 before the first evaluation."""
        return max((e.vra for e in self.epochs if e.vra is not None), default=-1.0)
