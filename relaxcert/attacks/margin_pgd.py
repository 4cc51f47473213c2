"""Margin PGD: projected gradient descent on the property's own margin, with random restarts.

An attack finds violations; it never proves that there are none. What it reports is proved: the
violating logits are recomputed in float64 with their rounding bounded, and the point is pulled
inside the ball by more than the rounding of its distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relaxcert.attacks.objective import Target, goal_of
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.directed import fraction_down
from relaxcert.lipschitz.forward import Forward, forward_with_error
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.lipschitz.verified import VerifiedBounds
from relaxcert.spec.ball import Ball, Norm

# The point is drawn in by this share of eps; the rounding of x' - x and of its norm is far less.
_INSIDE = 1.0 - 1e-7


@dataclass(frozen=True)
class AttackResult:
    """What an attack found.

    Attributes:
        falsified: (batch,) bool; the property provably fails at these points.
        witnesses: (batch, targets, ...), float64, the x' found for each target of the property
            (one prefix length each for uniform properties); meaningful where that target broke.
        broken: (batch, targets) bool, which targets are provably broken.
        lowest: (batch, targets), the lowest margin found, in logit units.
    """

    falsified: Tensor
    witnesses: Tensor
    broken: Tensor
    lowest: Tensor


def attack(
    net: GloRoNet,
    inputs: Tensor,
    *,
    steps: int = 40,
    restarts: int = 3,
    seed: int = 0,
) -> AttackResult:
    """Attack the property of ``net`` at each point; inputs (batch, ...), taken as float64.

    Args:
        net: the network; attacked in float64 with its exact weights.
        inputs: the points.
        steps: gradient steps a restart, with a step size that decays to 2 % of the radius.
        restarts: the first starts near x, the others at random points of the sphere.
        seed: of the random starts.

    Raises:
        InvalidInput: no steps or restarts, or non-finite inputs; and the errors of ``certify``.
    """
    if steps < 1 or restarts < 1:
        raise InvalidInput(f"steps={steps} and restarts={restarts} must be at least 1.")
    centre = inputs.detach().double()
    if not bool(centre.isfinite().all()):
        raise InvalidInput("inputs holds NaN or infinity: remove such points before an attack.")
    bounds = net.verify(tuple(centre.shape[1:]))
    with torch.no_grad():
        at_centre = forward_with_error(centre, bounds.exact, bounds)
        doubt = _doubt(at_centre, bounds, net.prop.balls[0].norm)
    goal = goal_of(net.prop, at_centre.logits, doubt)
    generator = torch.Generator(device=centre.device).manual_seed(seed)
    found = [_minimise(t, centre, bounds, steps, restarts, generator) for t in goal.targets()]
    broken = [
        _provably_broken(target, centre, witness, bounds)
        for target, (witness, _) in zip(goal.targets(), found, strict=True)
    ]
    return AttackResult(
        falsified=goal.broken(list(broken)),
        witnesses=torch.stack([witness for witness, _ in found], dim=1),
        broken=torch.stack(broken, dim=1),
        lowest=torch.stack([lowest for _, lowest in found], dim=1),
    )


def _minimise(
    target: Target,
    centre: Tensor,
    bounds: VerifiedBounds,
    steps: int,
    restarts: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The best point found for one target, and its margin."""
    radius = fraction_down(target.ball.eps) * _INSIDE
    norm = target.ball.norm
    best, lowest = centre.clone(), torch.full_like(centre.flatten(1)[:, 0], float("inf"))
    for restart in range(restarts):
        offset = torch.randn(
            centre.shape, generator=generator, dtype=centre.dtype, device=centre.device
        )
        offset = _project(offset * (1e-3 * radius if restart == 0 else 1e3 * radius), radius, norm)
        for step in range(steps + 1):
            offset.requires_grad_()
            margin = target.margin(bounds.exact.run(centre + offset))
            (gradient,) = torch.autograd.grad(margin.sum(), offset)
            offset = offset.detach()
            better = margin.detach() < lowest
            lowest = torch.where(better, margin.detach(), lowest)
            best = torch.where(_over(better, centre), centre + offset, best)
            length = radius * max(0.02, 1.0 - step / steps)
            offset = _project(offset - length * _steepest(gradient, norm), radius, norm)
    return best, lowest


def _provably_broken(
    target: Target, centre: Tensor, witness: Tensor, bounds: VerifiedBounds
) -> Tensor:
    """Whether the target's margin is at most 0 at the witness, in exact arithmetic; (batch,)."""
    with torch.no_grad():
        forward = forward_with_error(witness, bounds.exact, bounds)
        doubt = _doubt(forward, bounds, target.ball.norm)
        inside = _length(witness - centre, target.ball) <= fraction_down(target.ball.eps)
        return inside & (target.margin(forward.logits) * (1.0 - 1e-12) + doubt < 0.0)


def _doubt(forward: Forward, bounds: VerifiedBounds, norm: Norm) -> Tensor:
    """How far a computed f_j - f_i may be from the exact one, for every pair; (batch,)."""
    # It is known up to slack_j + slack_i + D_ji e; twice the largest covers every pair.
    reach = forward.error[norm] * bounds.norms[norm].distances.largest
    return 1.001 * (2.0 * forward.slack.amax(1) + reach)


def _length(offset: Tensor, ball: Ball) -> Tensor:
    """Upper bound of the distance: x' - x is rounded once, its norm by far less than 1e-9."""
    length = torch.linalg.vector_norm(offset.flatten(1), ORDER[ball.norm], dim=1)
    return length * (1.0 + 1e-9) + 1e-300


def _over(flags: Tensor, like: Tensor) -> Tensor:
    return flags.view(-1, *[1] * (like.dim() - 1))


def _steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The direction of norm 1 along which the margin falls fastest."""
    flat = gradient.flatten(1)
    if norm == "linf":
        direction = flat.sign()
    elif norm == "l2":
        direction = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-300)
    else:
        largest = flat.abs().argmax(1, keepdim=True)
        direction = torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest).sign())
    return direction.view_as(gradient)


def _project(offset: Tensor, radius: float, norm: Norm) -> Tensor:
    """The nearest offset inside the ball (l1: inside, by scaling)."""
    flat = offset.flatten(1)
    if norm == "linf":
        return flat.clamp(-radius, radius).view_as(offset)
    length = torch.linalg.vector_norm(flat, ORDER[norm], dim=1, keepdim=True)
    return (flat * (radius / length.clamp(min=radius))).view_as(offset)
