"""How far a product bound is above the truth, at the least: the best lower bound beside it.

For each norm, over all pairs of classes (j, i): the bound K_ji = P D_ji, and the steepest slope of
f_j - f_i that was found: gradients (in the dual norm) at the given points and near them, and
quotients of pairs of the points. Computed in float64 and lowered by 1e-9: a lower bound for all
practical purposes, but not verified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.lipschitz.graph import Graph
from relaxcert.lipschitz.matrix import DUAL_ORDER, ORDER
from relaxcert.lipschitz.verified import VerifiedBounds
from relaxcert.spec.ball import Norm

_LOWERED = 1.0 - 1e-9
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Tightness:
    """One row of the report.

    Attributes:
        norm: of the input.
        bound: K_ji of the pair of classes for which the ratio is smallest, verified.
        found: the steepest slope of that pair's difference that was found.
        pair: the two classes.
        how: ``gradient`` or ``pair of inputs``.
    """

    norm: Norm
    bound: float
    found: float
    pair: tuple[int, int]
    how: str

    @property
    def ratio(self) -> float:
        """bound / found: 1 if the bound is exact; inf if nothing moves."""
        return self.bound / self.found if self.found > 0.0 else float("inf")


class Verifiable(Protocol):
    """What gives verified bounds for a shape: a GloRoNet."""

    def verify(self, input_shape: tuple[int, ...] | None = None) -> VerifiedBounds:
        """Bounds of the present weights."""
        ...


def tightness(net: Verifiable, inputs: Tensor, *, rounds: int = _ROUNDS) -> tuple[Tightness, ...]:
    """The pair of classes for which bound and steepest slope found are nearest, per norm.

    Args:
        net: a network with verified bounds.
        inputs: points near which slopes are sought, (batch, ...); a few dozen suffice.
        rounds: how often gradients are taken at points moved at random.

    Raises:
        InvalidInput: no points, or points that are not finite; and the errors of ``verify``.
    """
    if len(inputs) == 0 or not bool(inputs.isfinite().all()):
        raise InvalidInput(
            "inputs must be at least one point, all finite: give points of the data."
        )
    bounds = net.verify(tuple(inputs.shape[1:]))
    points = inputs.detach().double().to(bounds.snapshot[0].device if bounds.snapshot else "cpu")
    rows: list[Tightness] = []
    for norm, proved in bounds.norms.items():
        pairs = proved.pairs
        constants = proved.product * pairs
        slopes, how = _steepest(bounds.exact, points, norm, constants, rounds)
        # Pairs that the bound says are constant have no ratio.
        ratio = torch.where(constants > 0.0, slopes / constants, torch.zeros_like(slopes))
        place = int(ratio.argmax())
        j, i = divmod(place, len(pairs))
        rows.append(Tightness(norm, float(constants[j, i]), float(slopes[j, i]), (j, i), how[j][i]))
    return tuple(rows)


def _steepest(
    graph: Graph, points: Tensor, norm: Norm, constants: Tensor, rounds: int
) -> tuple[Tensor, list[list[str]]]:
    """The largest slope of each f_j - f_i, (C, C), and how it was found."""
    classes = len(constants)
    best = torch.zeros_like(constants)
    how = [["gradient"] * classes for _ in range(classes)]
    current = points.clone()
    generator = torch.Generator(device=points.device).manual_seed(0)
    for _ in range(rounds + 1):
        gradients = _gradients(graph, current)  # (C, batch, ...)
        flat = gradients.flatten(2)
        for j in range(classes):
            difference = flat[j][None] - flat
            size = torch.linalg.vector_norm(difference, DUAL_ORDER[norm], dim=2)
            best[j] = torch.maximum(best[j], size.amax(1))
        # Around the points themselves there are other pieces of the function.
        noise = torch.randn(
            current.shape, generator=generator, dtype=current.dtype, device=current.device
        )
        current = points + noise * points.std().clamp(min=1e-3) * 0.5
    best = best * _LOWERED
    moved = _quotients(graph, points, norm, best)
    for j in range(classes):
        for i in range(classes):
            if float(moved[j, i]) > float(best[j, i]):
                how[j][i] = "pair of inputs"
    return torch.maximum(best, moved), how


def _gradients(graph: Graph, points: Tensor) -> Tensor:
    """(C, batch, ...): the gradient of each logit at each point; points do not mix."""
    inputs = points.detach().requires_grad_()
    logits = graph.run(inputs.clone())
    found: list[Tensor] = []
    for column in range(logits.shape[1]):
        (gradient,) = torch.autograd.grad(logits[:, column].sum(), inputs, retain_graph=True)
        found.append(gradient.detach())
    return torch.stack(found)


def _quotients(graph: Graph, points: Tensor, norm: Norm, best: Tensor) -> Tensor:
    """|difference of f_j - f_i| / distance over all pairs of neighbouring points of the batch."""
    if len(points) < 2:
        return torch.zeros_like(best)
    other = points.roll(1, 0)
    distance = torch.linalg.vector_norm((points - other).flatten(1), ORDER[norm], dim=1)
    with torch.no_grad():
        change = graph.run(points.clone()) - graph.run(other.clone())
    moved = (change[:, :, None] - change[:, None, :]).abs()
    useful = distance > 1e-6 * points.abs().amax().clamp(min=1e-300)
    quotient = moved / distance.clamp(min=1e-300)[:, None, None] * useful[:, None, None]
    return quotient.amax(0) * _LOWERED
