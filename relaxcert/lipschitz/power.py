"""The differentiable estimate of a spectral norm: the power method, for training only.

It approaches the truth from *below* (two iterations: 15 % low on Gaussian matrices), so nothing is
ever certified with it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ITERATIONS = 2  # a batch, as in the paper (Appendix E)


def initial_iterate(columns: int) -> Tensor:
    """A unit vector to start from, shape (columns,); the same on every machine and run."""
    generator = torch.Generator().manual_seed(columns)
    return unit_vector(torch.randn(columns, generator=generator))


def spectral_norm_estimate(
    weight: Tensor, iterate: Tensor, iterations: int = ITERATIONS
) -> tuple[Tensor, Tensor]:
    """Return (sigma, next iterate) after some power iterations from ``iterate``.

    shape: weight (rows, columns), iterate (columns,) -> (), (columns,)

        v <- W^T W v / ||W^T W v||     (without gradient)
        sigma = u^T W v = ||W v||      (gradient: u v^T with u = W v / ||W v|| held fixed)

    Safe at zero weights: sigma is 0 with gradient 0, and the iterate stays where it was.
    """
    with torch.no_grad():
        vector = iterate
        for _ in range(iterations):
            image = weight.mT @ (weight @ vector)
            largest = torch.linalg.vector_norm(image, math.inf)
            scaled = image / largest
            unit = scaled / torch.linalg.vector_norm(scaled)
            vector = torch.where(largest > 0, unit, vector)
    # The iterate itself will be overwritten in place, which autograd must not see.
    vector = vector.clone()
    image = weight @ vector
    return torch.dot(unit_vector(image.detach()), image), vector


def safe_norm(vector: Tensor) -> Tensor:
    """The l2 norm with gradient 0, not NaN, at 0; scaled so that tiny entries do not vanish."""
    scale = vector.detach().abs().amax()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    scaled = vector / scale
    squared = scaled.square().sum()
    nonzero = squared > 0
    root = torch.where(nonzero, squared, torch.ones_like(squared)).sqrt()
    return torch.where(nonzero, root * scale, squared)


def unit_vector(vector: Tensor) -> Tensor:
    """vector / ||vector||; 0 stays 0; any shape, also an empty one."""
    if vector.numel() == 0:  # of an empty layer, which is refused where its bound is proved
        return vector
    largest = vector.abs().amax()
    scaled = vector / torch.where(largest > 0, largest, torch.ones_like(largest))
    norm = scaled.square().sum().sqrt()
    return scaled / torch.where(norm > 0, norm, torch.ones_like(norm))
