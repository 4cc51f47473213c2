"""What an attack works on, and whether a point it found really breaks a target: never on trust."""

from __future__ import annotations

import torch
from torch import Tensor

from relaxcert.attacks.objective import Goal, Target, goal_of
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.directed import fraction_down
from relaxcert.lipschitz.forward import Forward, forward_with_error
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.lipschitz.verified import VerifiedBounds
from relaxcert.spec.ball import Ball, Norm

# Points are drawn in by this share of eps; the rounding of x' - x and of its norm is far less.
_INSIDE = 1.0 - 1e-7


class Scene:
    """Points to attack, the exact network in float64, and the targets at these points.

    Attributes:
        centre: (batch, ...), float64.
        bounds: verified bounds with the float64 copy of the network.
        goal: what must be broken at each point.

    Raises:
        InvalidInput: points with NaN or infinity; and the errors of ``certify``.
    """

    def __init__(self, net: GloRoNet, inputs: Tensor) -> None:
        self.centre = inputs.detach().double()
        if not bool(self.centre.isfinite().all()):
            raise InvalidInput("inputs holds NaN or infinity: remove such points before an attack.")
        self.bounds: VerifiedBounds = net.verify(tuple(self.centre.shape[1:]))
        with torch.no_grad():
            forward = forward_with_error(self.centre, self.bounds.exact, self.bounds)
            doubt = _doubt(forward, self.bounds, net.prop.balls[0].norm)
        self.goal: Goal = goal_of(net.prop, forward.logits, doubt)
        self.targets: list[Target] = self.goal.targets()

    def logits(self, inputs: Tensor) -> Tensor:
        """Differentiable float64 logits; (batch, ...) -> (batch, classes)."""
        return self.bounds.exact.run(inputs)

    def radius(self, target: Target) -> float:
        """A radius inside the target's ball by more than the rounding of a distance."""
        return fraction_down(target.ball.eps) * _INSIDE

    def broken(self, target: Target, witness: Tensor) -> Tensor:
        """Whether the target's margin is below 0 at the witness and the witness in the ball.

        Proved: the rounding of the logits and of the distance is bounded. NaN proves nothing.

        Args:
            target: one of this scene's.
            witness: (batch, ...), float64.

        Returns:
            (batch,) bool.
        """
        with torch.no_grad():
            forward = forward_with_error(witness, self.bounds.exact, self.bounds)
            doubt = _doubt(forward, self.bounds, target.ball.norm)
            offset = witness - self.centre
            inside = _length(offset, target.ball) <= fraction_down(target.ball.eps)
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
