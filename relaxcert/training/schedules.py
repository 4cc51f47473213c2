"""Schedules: a value as a function of training progress t in [0, 1], interpolated per batch.

t = e / T with e the (fractional) epoch and T the number of epochs (paper, Table 3).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Schedule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Constant(_Schedule):
    """The same value throughout."""

    kind: Literal["constant"] = "constant"
    value: float = Field(ge=0)

    def at(self, t: float) -> float:
        """value"""
        return self.value


class Linear(_Schedule):
    """start + (end - start) t"""

    kind: Literal["linear"] = "linear"
    start: float = Field(ge=0)
    end: float = Field(ge=0)

    def at(self, t: float) -> float:
        """start + (end - start) t"""
        return self.start + (self.end - self.start) * t


class Half(_Schedule):
    """Linear over the first half, then ``end``."""

    kind: Literal["half"] = "half"
    start: float = Field(ge=0)
    end: float = Field(ge=0)

    def at(self, t: float) -> float:
        """start + (end - start) min(2t, 1)"""
        return self.start + (self.end - self.start) * min(2 * t, 1.0)


class LogHalf(_Schedule):
    """ln(e^start + (e^end - e^start) 2t) over the first half, then ``end``: rises ever slower."""

    kind: Literal["log-half"] = "log-half"
    start: float = Field(ge=0, le=700)  # e^700 is a float64, e^710 is not
    end: float = Field(ge=0, le=700)

    def at(self, t: float) -> float:
        """ln(e^start + (e^end - e^start) min(2t, 1))"""
        low, high = math.exp(self.start), math.exp(self.end)
        return math.log(low + (high - low) * min(2 * t, 1.0))


class AfterHalf(_Schedule):
    """``start`` over the first half, then start (end/start)^(2t - 1): exponential decay."""

    kind: Literal["after-half"] = "after-half"
    start: float = Field(gt=0)
    end: float = Field(gt=0)

    def at(self, t: float) -> float:
        """start (end/start)^max(2t - 1, 0)"""
        return self.start * (self.end / self.start) ** max(2 * t - 1.0, 0.0)


class OneCycle(_Schedule):
    """Cosine from peak/25 up to ``peak`` over ``warm_up`` of the time, then cosine down to ~0.

    Smith & Topin 2019, with torch's OneCycleLR defaults for the two ends.
    """

    kind: Literal["one-cycle"] = "one-cycle"
    peak: float = Field(gt=0)
    warm_up: float = Field(default=0.15, gt=0, lt=1)

    def at(self, t: float) -> float:
        """Two half cosines."""
        if t < self.warm_up:
            return _cosine(self.peak / 25.0, self.peak, t / self.warm_up)
        return _cosine(self.peak, self.peak / 2.5e5, (t - self.warm_up) / (1.0 - self.warm_up))


Schedule = Annotated[
    Constant | Linear | Half | LogHalf | AfterHalf | OneCycle, Field(discriminator="kind")
]


def _cosine(start: float, end: float, t: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * min(t, 1.0))) / 2.0
