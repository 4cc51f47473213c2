"""Margin PGD: projected gradient descent on the property's own margin, with random restarts.

An attack finds violations; it never proves that there are none. What it reports is proved: the
violating logits are recomputed in float64 with their rounding bounded, and the point is pulled
inside the ball by more than the rounding of its distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relaxcert.attacks.objective import Goal, Target
from relaxcert.attacks.scene import Scene
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.spec.ball import Norm


@dataclass(frozen=True)
class AttackResult:
    """What an attack found.

    Attributes:
        falsified: (batch,) bool; the property provably fails at these points.
        witnesses: (batch, targets, ...), float64, the x' found for each target of the property
            (one prefix length each for uniform properties); meaningful where that target broke.
        broken: (batch, targets) bool, which targets are provably broken.
        lowest: (batch, targets), the lowest margin found, in logit units.
        goal: what had to be broken.
    """

    falsified: Tensor
    witnesses: Tensor
    broken: Tensor
    lowest: Tensor
    goal: Goal

    def may_count(self, labels: Tensor) -> Tensor:
        """Which points robust accuracy may still count; labels (batch,) -> (batch,) bool.

        Their share bounds the VRA of *any* certificate from above: what is broken cannot be
        certified, and a set that is broken or lacks the label cannot count.
        """
        return self.goal.may_count(list(self.broken.unbind(1)), labels.to(self.broken.device))

    @classmethod
    def of(cls, scene: Scene, witnesses: list[Tensor], lowest: list[Tensor]) -> AttackResult:
        """Check the points found for each target, and combine them."""
        pairs = zip(scene.targets, witnesses, strict=True)
        broken = [scene.broken(target, witness) for target, witness in pairs]
        return cls(
            falsified=scene.goal.broken(list(broken)),
            witnesses=torch.stack(witnesses, dim=1),
            broken=torch.stack(broken, dim=1),
            lowest=torch.stack(lowest, dim=1),
            goal=scene.goal,
        )


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
    scene = Scene(net, inputs)
    generator = torch.Generator(device=scene.centre.device).manual_seed(seed)
    found = [_minimise(scene, target, steps, restarts, generator) for target in scene.targets]
    return AttackResult.of(scene, [point for point, _ in found], [low for _, low in found])


def _minimise(
    scene: Scene, target: Target, steps: int, restarts: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The best point found for one target, and its margin."""
    centre, radius, norm = scene.centre, scene.radius(target), target.ball.norm
    best, lowest = centre.clone(), torch.full_like(centre.flatten(1)[:, 0], float("inf"))
    for restart in range(restarts):
        offset = torch.randn(
            centre.shape, generator=generator, dtype=centre.dtype, device=centre.device
        )
        offset = project(offset * (1e-3 * radius if restart == 0 else 1e3 * radius), radius, norm)
        for step in range(steps + 1):
            offset.requires_grad_()
            margin = target.margin(scene.logits(centre + offset))
            (gradient,) = torch.autograd.grad(margin.sum(), offset)
            offset = offset.detach()
            better = margin.detach() < lowest
            lowest = torch.where(better, margin.detach(), lowest)
            best = torch.where(_over(better, centre), centre + offset, best)
            length = radius * max(0.02, 1.0 - step / steps)
            offset = project(offset - length * steepest(gradient, norm), radius, norm)
    return best, lowest


def _over(flags: Tensor, like: Tensor) -> Tensor:
    return flags.view(-1, *[1] * (like.dim() - 1))


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
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


def project(offset: Tensor, radius: float, norm: Norm) -> Tensor:
    """The nearest offset inside the ball (l1: inside, by scaling)."""
    flat = offset.flatten(1)
    if norm == "linf":
        return flat.clamp(-radius, radius).view_as(offset)
    length = torch.linalg.vector_norm(flat, ORDER[norm], dim=1, keepdim=True)
    return (flat * (radius / length.clamp(min=radius))).view_as(offset)
