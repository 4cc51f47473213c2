"""Linear layers as matrices, by all unit vectors: the slow way to their norm."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def matrix_of(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The linear part of a layer in float64, (outputs, inputs)."""
    count = math.prod(shape)
    with torch.no_grad():
        at_zero = layer.double()(torch.zeros(1, *shape, dtype=torch.float64))
        images = layer(torch.eye(count, dtype=torch.float64).reshape(count, *shape)) - at_zero
    return images.flatten(1).T


def norm_of(layer: nn.Module, shape: tuple[int, ...]) -> float:
    """The spectral norm, by SVD."""
    return float(torch.linalg.matrix_norm(matrix_of(layer, shape), 2))
