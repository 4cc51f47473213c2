"""The usual way of certifying, written down as it is usually done; each part is unsound.

Nothing here comes from relaxcert: these are the methods that the suite shows to be wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

SpectralNorm = Callable[[Tensor], float]


def power_method(
    iterations: int, *, seed: int = 0, guard: float = 0.0, start: Tensor | None = None
) -> SpectralNorm:
    """A fixed number of power iterations; ``guard`` is the usual 1e-9 beside a norm."""

    def estimate(weight: Tensor) -> float:
        vector, weight = start, weight.detach()
        if vector is None:
            generator = torch.Generator().manual_seed(seed)
            vector = torch.randn(weight.shape[1], generator=generator, dtype=weight.dtype)
        for _ in range(iterations):
            left = weight @ vector
            left = left / (left.norm() + guard)
            vector = weight.mT @ left
            vector = vector / (vector.norm() + guard)
        left = weight @ vector
        return float((left / (left.norm() + guard)) @ left)

    return estimate


def converged_power_method(start: Tensor, *, tolerance: float = 1e-4) -> SpectralNorm:
    """Iterate from a stored vector until the estimate changes by less than ``tolerance``."""

    def estimate(weight: Tensor) -> float:
        previous = float("inf")
        for iterations in range(1, 1001):
            present = power_method(iterations, start=start)(weight)
            if abs(present - previous) < tolerance:
                return present
            previous = present
        return previous

    return estimate


def root_of_squares(weight: Tensor) -> float:
    """The Frobenius norm, which is an upper bound, by plain squares: they may underflow."""
    return float((weight * weight).sum().sqrt().detach())


def local_radius(backbone: nn.Sequential, point: Tensor, norm_of: SpectralNorm) -> float:
    """min over i of (f_j - f_i) / (prod of norms * ||w_j - w_i||), in the network's own dtype.

    Layers that are not linear count as 1-Lipschitz, whatever they are.
    """
    linear = [layer for layer in backbone if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        logits = backbone(point[None])[0]
        product = 1.0
        for layer in linear[:-1]:
            product *= norm_of(layer.weight)
        rows = linear[-1].weight
        best = int(logits.argmax())
        radii = [
            float(logits[best] - logits[i]) / (product * float((rows[best] - rows[i]).norm()))
            if product * float((rows[best] - rows[i]).norm())
            else float("inf")
            for i in range(len(rows))
            if i != best
        ]
    return min(radii)


def margin_masked_by_value(logits: Tensor, pairs: Tensor, eps: float) -> float:
    """f_y - max of the others - eps K, where "the others" are those whose value differs."""
    highest = logits.max()
    others = logits < highest
    if not bool(others.any()):
        return float("inf")
    label = int(logits.argmax())
    return float((highest - logits - eps * pairs[label].detach())[others].min())
