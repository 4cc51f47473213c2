"""Augmentation by batched tensor operations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relaxcert.errors import InvalidInput

_BANDS = 4  # of Landsat


def patch_symmetries(inputs: Tensor) -> Tensor:
    """Turn or mirror each square patch by a random one of the 8 symmetries; (batch, features).

    For flat patches of n x n pixels with 4 bands, pixel-major (Landsat Satimage): the label is the
    centre pixel's, which stays where it is. Uses torch's global generator.

    Raises:
        InvalidInput: features are not 4 n^2.
    """
    side = math.isqrt(inputs.shape[1] // _BANDS)
    if inputs.dim() != 2 or side * side * _BANDS != inputs.shape[1]:
        raise InvalidInput(
            f"augmentation 'patch-symmetries' got inputs of shape {tuple(inputs.shape)}, expected "
            "(batch, 4 n^2): flat square patches with 4 bands."
        )
    choice = torch.randint(8, (len(inputs), 1), device=inputs.device)
    columns = symmetry_columns(side).to(inputs.device)
    return inputs.gather(1, columns[choice[:, 0]])


def symmetry_columns(side: int) -> Tensor:
    """For each of the 8 symmetries, which feature goes where; (8, side * side * 4)."""
    grid = torch.arange(side * side * _BANDS).reshape(side, side, _BANDS)
    turned = [torch.rot90(grid, turns, (0, 1)) for turns in range(4)]
    mirrored = [view.flip(1) for view in turned]
    return torch.stack([view.reshape(-1) for view in (*turned, *mirrored)])
