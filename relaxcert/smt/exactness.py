"""Exactness: how near certificates come to the truth, point by point.

The exact radius lies between the largest radius that the solver proves and the smallest at which it
has a witness; bisection narrows that gap. Both ends are proofs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.smt.fanout import processes, spread
from relaxcert.smt.judge import judge
from relaxcert.smt.network import ExactNetwork
from relaxcert.smt.query import Budget, Clock
from relaxcert.smt.solver import Solver, solver_named
from relaxcert.smt.translate import exact_network
from relaxcert.spec.prefix import Affinity, PrefixProperty, RelaxedTopK
from relaxcert.spec.property import Property
from relaxcert.spec.verdict import Answer

_LARGEST = Fraction(2) ** 40  # units of the input; a property that holds there holds everywhere


@dataclass(frozen=True, slots=True)
class ExactRadius:
    """The largest radius at which a property holds, enclosed.

    Attributes:
        proved: it holds on every ball of at most this radius (0: not even the smallest was tried).
        refuted: it fails at this radius; inf if no witness was found anywhere.
        reason: why the gap is wider than asked for, if it is.
    """

    proved: float
    refuted: float
    reason: str = ""

    @property
    def decided(self) -> bool:
        """Whether the gap is as narrow as was asked for."""
        return not self.reason


def exact_radius(
    network: ExactNetwork,
    point: Sequence[Fraction],
    prop: Property,
    *,
    start: float = 0.0,
    tolerance: float = 1e-3,
    budget: Budget | float | str = 10.0,
    solver: str | Solver = "z3",
) -> ExactRadius:
    """Enclose the radius up to which ``prop`` (with every ball of that radius) holds at a point.

    Args:
        network, point: exact.
        prop: its own radius is not used.
        start: a radius that is likely to hold, for instance the certified one; it is proved anew.
        tolerance: relative width of the enclosure.
        budget: for all radii together.
        solver: a backend or its name.

    Raises:
        InvalidInput: a tolerance that is not between 0 and 1, a budget of 0.
    """
    if not 0 < tolerance < 1:
        raise InvalidInput(f"tolerance={tolerance!r} must lie between 0 and 1, such as 1e-3.")
    search = _Bisection(network, tuple(point), prop, Clock(Budget.of(budget)), solver)
    return search.run(start, tolerance)


class _Bisection:
    def __init__(
        self,
        network: ExactNetwork,
        point: tuple[Fraction, ...],
        prop: Property,
        clock: Clock,
        solver: str | Solver,
    ) -> None:
        self.network, self.point, self.prop = network, point, prop
        self.clock, self.solver = clock, solver
        self.proved, self.refuted, self.reason = 0.0, math.inf, ""

    def run(self, start: float, tolerance: float) -> ExactRadius:
        radius = start * (1 - 2.0**-20) if 0 < start < math.inf else 1.0
        if not self._try(radius):
            return self._result()
        # Doubled or halved until both ends are known, then bisected.
        while self.refuted == math.inf or self.proved == 0.0:
            radius = 2 * self.proved if self.refuted == math.inf else self.refuted / 2
            if radius > _LARGEST or radius < 1 / _LARGEST or not self._try(radius):
                return self._result()
        while self.refuted - self.proved > tolerance * self.refuted:
            if not self._try((self.proved + self.refuted) / 2):
                break
        return self._result()

    def _try(self, radius: float) -> bool:
        """Whether this radius was decided."""
        if self.clock.up:
            self.reason = f"timeout: {self.clock.budget.seconds:g} s were not enough"
            return False
        prop = self.prop.with_eps(radius)
        found = judge(self.network, self.point, prop, budget=self.clock.left, solver=self.solver)
        if found.verdict.answer is Answer.CERTIFIED:
            self.proved = radius
        elif found.verdict.answer is Answer.FALSIFIED:
            self.refuted = radius
        else:
            self.reason = found.verdict.reason
        return found.verdict.answer is not Answer.UNKNOWN

    def _result(self) -> ExactRadius:
        return ExactRadius(self.proved, self.refuted, self.reason)


@dataclass(frozen=True, slots=True)
class Tightness:
    """Certified and exact radius of one point, in both quantifier orders where there are two.

    Attributes:
        index: its place in the data.
        certified: radius that the head certifies.
        exact: the property's own exact radius.
        pointwise: the exact radius of the pointwise order; None where the property has no orders.
    """

    index: int
    certified: float
    exact: ExactRadius
    pointwise: ExactRadius | None

    @property
    def unsound(self) -> bool:
        """Whether the head certifies a radius at which the property fails, by an exact witness.

        Balls are closed: a certified radius is itself claimed. The uniform order implies the
        pointwise one, so that a witness against the weaker counts, too.
        """
        weaker = math.inf if self.pointwise is None else self.pointwise.refuted
        refuted = min(self.exact.refuted, weaker)
        return refuted < math.inf and self.certified >= refuted

    @property
    def ratio(self) -> float:
        """Certified radius over the exact one; at most 1 if both are right; NaN if unknown."""
        known = self.exact.decided and 0 < self.exact.proved < math.inf
        return self.certified / self.exact.refuted if known else math.nan


def tightness(
    net: GloRoNet,
    inputs: Tensor,
    *,
    tolerance: float = 1e-3,
    budget: Budget | float | str = 10.0,
    solver: str | Solver = "z3",
    jobs: int = 1,
    on_point: Callable[[], object] | None = None,
) -> list[Tightness]:
    """Certified against exact radius for each point; inputs (batch, ...).

    Args:
        net: the network; its property's own radius is not used.
        inputs: the points, exact as they are.
        tolerance: relative width of the enclosures of exact radii.
        budget: for each exact radius.
        solver: a backend or its name.
        jobs: worker processes on this machine; 1 works in this process.
        on_point: called whenever a point is done.

    Raises:
        InvalidInput: a property whose balls differ in norm or radius: it has no one radius; no
            points, points that are not finite, a budget of 0.
    """
    if len(set(net.prop.balls)) != 1:
        raise InvalidInput(f"{net.prop!r} has several balls: take its parts by themselves.")
    if len(inputs) == 0 or not bool(inputs.isfinite().all()):
        raise InvalidInput("inputs must hold at least one point, and finite numbers only.")
    limits = Budget.of(budget)
    solver_named(solver)
    network = exact_network(net.backbone, tuple(inputs.shape[1:]))
    radii = net.certify(inputs.detach().clone()).radius.tolist()
    points = inputs.detach().double().cpu().flatten(1).tolist()
    queue = [
        _Job(network, net.prop, index, tuple(point), radius, tolerance, limits, solver)
        for index, (point, radius) in enumerate(zip(points, radii, strict=True))
    ]
    found: list[Tightness] = []
    with processes(min(jobs, len(queue))) as executor:
        for one in spread(queue, _tightness_of, executor, jobs):
            found.append(one)
            if on_point is not None:
                on_point()
    return sorted(found, key=lambda one: one.index)


@dataclass(frozen=True, slots=True)
class _Job:
    network: ExactNetwork
    prop: Property
    index: int
    point: tuple[float, ...]
    certified: float
    tolerance: float
    budget: Budget
    solver: str | Solver


def _tightness_of(job: _Job) -> Tightness:
    point = tuple(map(Fraction, job.point))

    def radius_of(prop: Property, start: float) -> ExactRadius:
        return exact_radius(
            job.network,
            point,
            prop,
            start=start,
            tolerance=job.tolerance,
            budget=job.budget,
            solver=job.solver,
        )

    exact = radius_of(job.prop, job.certified)
    other = _pointwise(job.prop)
    weaker = None if other is None else radius_of(other, exact.proved)
    return Tightness(job.index, job.certified, exact, weaker)


def _pointwise(prop: Property) -> PrefixProperty | None:
    """The same property with a k for each x', if it is stated with one k for all."""
    match prop:
        case RelaxedTopK(k=k, ball=ball) if prop.quantifier == "uniform":
            return RelaxedTopK(k, eps=ball.eps, norm=ball.norm, quantifier="pointwise")
        case Affinity(sets=sets, ball=ball) if prop.quantifier == "uniform":
            return Affinity(sets, eps=ball.eps, norm=ball.norm, quantifier="pointwise")
        case _:
            return None


def median_ratio(points: Sequence[Tightness]) -> float:
    """The median of the known ratios; NaN if there is none."""
    ratios = [point.ratio for point in points if not math.isnan(point.ratio)]
    return median(ratios) if ratios else math.nan
