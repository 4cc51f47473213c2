"""A property as two logits, so that any attack on a classifier is an attack on the property.

For one target of a property at given points, the module's logits are

    [margin, 0]

so class 0 wins while the target holds and class 1 wins exactly where it is broken (at margin 0 the
two tie). An untargeted attack from label 0 then searches for a violation; what it returns is only
a candidate until :func:`relaxcert.attacks.confirm` has proved it.

A uniform property has a target for each admissible k, each to be broken at an x' of its own; a
pointwise one has a single target. ``TwoLogit`` is one target; ``two_logits`` gives all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from relaxcert.attacks.margin_pgd import AttackResult, project
from relaxcert.attacks.objective import Target
from relaxcert.attacks.scene import Scene
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.spec.ball import Ball


class TwoLogit(nn.Module):
    """One target of a property at fixed points x: (batch, ...) -> (batch, 2), ``[margin, 0]``.

    Row b of the input is an x' around point b, so batches keep their order and size. Where the
    target does not apply (that k cannot serve at that point), the margin is -1 everywhere: nothing
    is left to break.

    Attributes:
        ball: where x' may lie.
        applies: (batch,) bool.
    """

    def __init__(self, scene: Scene, target: Target) -> None:
        super().__init__()
        self._scene = scene
        self._target = target
        self.ball: Ball = target.ball
        self.applies: Tensor = target.applies

    def forward(self, inputs: Tensor) -> Tensor:
        """Differentiable; computed in float64, returned in the inputs' dtype.

        Raises:
            InvalidInput: another number of points than the module was made for.
        """
        expected = self._scene.centre.shape
        if inputs.shape != expected:
            raise InvalidInput(
                f"inputs has shape {tuple(inputs.shape)}, expected {tuple(expected)}: each row is "
                "an x' around the point of that row, so attack the whole batch at once."
            )
        margin = self._target.margin(self._scene.logits(inputs.double()))
        margin = torch.where(self.applies, margin, -1.0)
        return torch.stack([margin, torch.zeros_like(margin)], dim=1).to(inputs.dtype)


def two_logits(net: GloRoNet, inputs: Tensor) -> tuple[TwoLogit, ...]:
    """One module for each target of ``net``'s property at ``inputs``, (batch, ...).

    Raises:
        InvalidInput: points with NaN or infinity; and the errors of ``certify``.
    """
    scene = Scene(net, inputs)
    return tuple(TwoLogit(scene, target).eval() for target in scene.targets)


def confirm(net: GloRoNet, inputs: Tensor, candidates: Sequence[Tensor]) -> AttackResult:
    """Check what any attack found: only what is proved broken is reported as broken.

    Candidates outside of their ball, or nearer to its surface than rounding can tell, are drawn
    in; NaN and infinity are replaced by x itself.

    Args:
        net: the network whose property was attacked.
        inputs: the points x, (batch, ...).
        candidates: for each module of ``two_logits``, in its order, an x' for each point,
            (batch, ...).

    Raises:
        InvalidInput: another number or shape of candidates; and the errors of ``certify``.
    """
    scene = Scene(net, inputs)
    shape = scene.centre.shape
    if len(candidates) != len(scene.targets) or any(c.shape != shape for c in candidates):
        raise InvalidInput(
            f"candidates has shapes {[tuple(c.shape) for c in candidates]}, expected "
            f"{len(scene.targets)} of shape {tuple(shape)}: one x' a point for each target."
        )
    points: list[Tensor] = []
    lowest: list[Tensor] = []
    for target, candidate in zip(scene.targets, candidates, strict=True):
        offset = candidate.detach().double() - scene.centre
        offset = offset.nan_to_num(0.0, 0.0, 0.0)
        drawn = scene.centre + project(offset, scene.radius(target), target.ball.norm)
        points.append(drawn)
        with torch.no_grad():
            lowest.append(target.margin(scene.logits(drawn)))
    return AttackResult.of(scene, points, lowest)
