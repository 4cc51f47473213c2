"""Links: lower bounds of "class j stays above class i", for the rows of (j, i) that are needed.

A link is the one quantity that the heads combine by min and max. There are three kinds, and the
same head runs on each: estimated margins (training), proved margins (certificates), and radii.
Only rows are ever computed, (batch, rows, classes), never (batch, classes, classes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from relaxcert.lipschitz.directed import tensor_down, tensor_up


class Links(Protocol):
    """Lower bounds for rows of pairs, and their values at the centre of the ball."""

    def rows(self, labels: Tensor) -> Tensor:
        """Values of (labels[b, r], i) for every class i; (batch, rows) -> (batch, rows, classes).

        The value of a class over itself is meaningless and is always masked by the heads.
        """
        ...

    def centre_rows(self, labels: Tensor) -> Tensor:
        """The same with a ball of radius 0: positive where the order at x itself is certain."""
        ...


def _gather(values: Tensor, labels: Tensor) -> Tensor:
    return values.gather(1, labels)[:, :, None]


@dataclass(frozen=True)
class EstimatedLinks:
    """Margins f_j - f_i - eps K_ji in training precision; differentiable, proves nothing.

    Attributes:
        logits: (batch, classes).
        pairs: D, (classes, classes).
        reach: eps P, scalar: how far the features before the last layer can move.
    """

    logits: Tensor
    pairs: Tensor
    reach: Tensor | float

    def rows(self, labels: Tensor) -> Tensor:
        """f_j - f_i - eps P D_ji."""
        return self.centre_rows(labels) - self.reach * self.pairs[labels]

    def centre_rows(self, labels: Tensor) -> Tensor:
        """f_j - f_i."""
        return _gather(self.logits, labels) - self.logits[:, None, :]


@dataclass(frozen=True)
class ProvedLinks:
    """Lower bounds of the real f_j(x') - f_i(x') over the ball; float64, rounded down.

    fl(f_j - f_i) - slack_j - slack_i - (e + eps P) D_ji   (soundness.md, level R)

    Attributes:
        logits: (batch, classes), float64, as computed.
        slack: (batch, classes), bound of the last layer's rounding.
        error: (batch,), e, bound of the rounding before the last layer.
        pairs: D, (classes, classes), verified.
        reach: eps P, verified and rounded up.
    """

    logits: Tensor
    slack: Tensor
    error: Tensor
    pairs: Tensor
    reach: float

    def rows(self, labels: Tensor) -> Tensor:
        """The bound over the ball."""
        return self._rows(labels, tensor_up(self.error + self.reach))

    def centre_rows(self, labels: Tensor) -> Tensor:
        """The bound at x alone."""
        return self._rows(labels, self.error)

    def _rows(self, labels: Tensor, distance: Tensor) -> Tensor:
        movement = tensor_up(distance[:, None, None] * self.pairs[labels])
        return tensor_down(self.difference(labels) - movement)

    def difference(self, labels: Tensor) -> Tensor:
        """fl(f_j - f_i) - slack_j - slack_i, rounded down."""
        low = tensor_down(self.logits - self.slack)
        high = tensor_up(self.logits + self.slack)
        return tensor_down(_gather(low, labels) - high[:, None, :])


@dataclass(frozen=True)
class RadiusLinks:
    """The largest radius at which each link is still proved, in units of the input norm.

    (fl(f_j - f_i) - slack_j - slack_i - e D_ji) / (P D_ji), rounded down; 0 if that is not
    positive; inf where the two logits differ by a constant.
    """

    proved: ProvedLinks
    product: float

    def rows(self, labels: Tensor) -> Tensor:
        """Radii of the links."""
        gap = self.proved.centre_rows(labels)
        distance = self.proved.pairs[labels]
        speed = tensor_up(self.product * distance)
        radius = tensor_down(gap / speed).clamp(min=0.0)
        # Constants are recognised exactly; a NaN speed (0 times inf) is a radius of 0.
        never = (distance == 0.0) & math.isfinite(self.product)
        radius = radius.masked_fill(never | (self.product == 0.0), math.inf)
        return torch.where((gap > 0.0) & ~speed.isnan(), radius, torch.zeros_like(gap))

    def centre_rows(self, labels: Tensor) -> Tensor:
        """Margins (not radii) at x alone."""
        return self.proved.centre_rows(labels)
