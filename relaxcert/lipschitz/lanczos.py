"""A guess at the largest eigenvalue of T T^T of a zero-padded convolution; never trusted."""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = 200
_CHECKED_EVERY = 10
_TOLERANCE = 1e-6


def largest_eigenvalue(input_of: Tensor, output_of: Tensor, kernel: Tensor) -> float:
    """Lanczos with full reorthogonalisation, until the residual is below 1e-6 of the value.

    The error of the value is about the square of the residual over the gap. kernel: (taps, c, m);
    input_of: (taps, pixels of the side with c), output_of: (taps, pixels of the other), -1: none.
    """
    pixels, channels = input_of.shape[1], kernel.shape[1]
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(pixels * channels, dtype=torch.float64, generator=generator)
    vector = vector / torch.linalg.vector_norm(vector)
    basis = [vector]
    alphas: list[float] = []
    betas: list[float] = []
    value = 0.0
    for step in range(1, min(_STEPS, len(vector)) + 1):
        image = _through(
            _through(basis[-1].reshape(pixels, channels), output_of, kernel), input_of, kernel.mT
        ).flatten()
        alphas.append(float(basis[-1] @ image))
        stacked = torch.stack(basis)
        for _ in range(2):
            image = image - stacked.mT @ (stacked @ image)
        beta = float(torch.linalg.vector_norm(image))
        if step % _CHECKED_EVERY == 0 or beta <= 1e-12 * alphas[0] or step == len(vector):
            off = torch.tensor(betas, dtype=torch.float64)
            tridiagonal = torch.diag(torch.tensor(alphas, dtype=torch.float64))
            values, vectors = torch.linalg.eigh(tridiagonal + off.diag(1) + off.diag(-1))
            value = float(values[-1])
            if beta * abs(float(vectors[-1, -1])) <= _TOLERANCE * value:
                break
        betas.append(beta)
        basis.append(image / beta)
    return value


def _through(values: Tensor, source: Tensor, kernel: Tensor) -> Tensor:
    """Sum over taps of values at ``source`` times the tap; row -1 is a row of zeros."""
    padded = torch.cat([values, values.new_zeros(1, values.shape[1])])
    return (padded[source] @ kernel).sum(0)
