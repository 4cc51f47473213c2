"""The question that a solver gets: is there an x' in this region with these logits?"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from relaxcert.errors import InvalidInput
from relaxcert.smt.deviation import deviation_over, logits_at
from relaxcert.smt.formula import Constraint, holds, relaxed
from relaxcert.smt.network import Exact, ExactNetwork
from relaxcert.spec.ball import Ball

_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(ms|s|m|min|h)?")
_UNITS = {None: 1.0, "s": 1.0, "ms": 1e-3, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Region:
    """A closed box of inputs, and inside it possibly a ball; all numbers exact.

    Attributes:
        lower, upper: the box, (inputs,) each.
        centre: centre of the ball; None where the region is the box alone.
        ball: norm and radius; None likewise. A ball in linf is its box.
    """

    lower: Exact
    upper: Exact
    centre: Exact | None = None
    ball: Ball | None = None

    def __post_init__(self) -> None:
        if len(self.lower) != len(self.upper) or not self.lower:
            raise InvalidInput(
                f"lower has {len(self.lower)} numbers, upper {len(self.upper)}: give one of each "
                "for every input."
            )
        if any(low > high for low, high in zip(self.lower, self.upper, strict=True)):
            raise InvalidInput("lower exceeds upper for some input: the region would be empty.")

    @classmethod
    def around(cls, centre: Sequence[Fraction], ball: Ball) -> Region:
        """The ball around a point: exactly its box for linf, box and ball for l1 and l2."""
        exact = tuple(Fraction(value) for value in centre)
        lower = tuple(value - ball.eps for value in exact)
        upper = tuple(value + ball.eps for value in exact)
        return cls(
            lower,
            upper,
            None if ball.norm == "linf" else exact,
            None if ball.norm == "linf" else ball,
        )

    @property
    def inputs(self) -> int:
        """How many inputs there are."""
        return len(self.lower)

    @property
    def middle(self) -> Exact:
        """The centre of the ball, or of the box."""
        if self.centre is not None:
            return self.centre
        return tuple((a + b) / 2 for a, b in zip(self.lower, self.upper, strict=True))

    def contains(self, point: Sequence[Fraction]) -> bool:
        """Whether an exact point lies in the region, decided exactly."""
        bounds = zip(self.lower, point, self.upper, strict=True)
        if not all(low <= value <= high for low, value, high in bounds):
            return False
        if self.centre is None or self.ball is None:
            return True
        offset = [value - middle for value, middle in zip(point, self.centre, strict=True)]
        if self.ball.norm == "l1":
            return sum(abs(value) for value in offset) <= self.ball.eps
        return sum(value * value for value in offset) <= self.ball.eps**2


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """Find x' in ``region`` whose logits fulfil ``violation``; proved where there is none.

    Attributes:
        network, region, violation: the question, about the true logits.
        possible: what the chain's logits fulfil wherever the true ones may violate: the violation
            itself where the chain is exact; None where no bound of the distance is known.
    """

    network: ExactNetwork
    region: Region
    violation: Constraint
    possible: Constraint | None = field(init=False)

    def __post_init__(self) -> None:
        if self.region.inputs != self.network.inputs:
            raise InvalidInput(
                f"the region has {self.region.inputs} inputs, the network {self.network.inputs}: "
                "flatten the point in the network's own order."
            )
        doubt = deviation_over(self.network, self.region.lower, self.region.upper)
        possible = None if doubt is None else relaxed(self.violation, doubt)
        object.__setattr__(self, "possible", possible)

    def broken_by(self, point: Sequence[Fraction]) -> bool:
        """Whether this x' is a witness: in the region, with violating logits; decided exactly."""
        if not self.region.contains(point):
            return False
        logits = logits_at(self.network, point)
        return logits is not None and holds(self.violation, logits.values, logits.doubt)


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one decision may cost; the first limit that is hit gives UNKNOWN with its name.

    Attributes:
        seconds: wall time.
        boxes: sub-boxes of the region that are looked at.
        rlimit: z3's own, reproducible measure of work, for each solver call.
    """

    seconds: float = 10.0
    boxes: int = 200_000
    rlimit: int = 8_000_000

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise InvalidInput(
                f"budget={self.seconds!r} must be a number of seconds greater than 0, such as 10 "
                "or '10s': without time nothing can be decided."
            )
        if self.boxes < 1 or self.rlimit < 1:
            raise InvalidInput(
                f"boxes={self.boxes} and rlimit={self.rlimit} must be at least 1 each."
            )

    @classmethod
    def of(cls, budget: Budget | float | str) -> Budget:
        """From seconds, or a text such as ``"10s"``, ``"500ms"``, ``"2m"``.

        Raises:
            InvalidInput: not such a text, or not greater than 0.
        """
        if isinstance(budget, Budget):
            return budget
        if not isinstance(budget, str):
            return cls(seconds=float(budget))
        match = _SECONDS.fullmatch(budget.strip())
        if match is None:
            raise InvalidInput(
                f"budget={budget[:40]!r} is not a time: write for instance '10s', '500ms' or '2m'."
            )
        return cls(seconds=float(match[1]) * _UNITS[match[2]])


class Clock:
    """The time that is left of a budget."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._end = time.monotonic() + budget.seconds

    @property
    def left(self) -> float:
        """Seconds left; 0 or less when the time is up."""
        return self._end - time.monotonic()

    @property
    def up(self) -> bool:
        """Whether the time is up."""
        return self.left <= 0
