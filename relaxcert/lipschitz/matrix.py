"""Verified bounds for dense matrices: induced norms, absolute norms, distances of rows.

Norms are named after the norm of the input space. A matrix W maps (inputs, norm) to (outputs, same
norm); a difference of two logits maps (features, norm) to the reals, so its constant is the *dual*
norm of the difference of two rows: l2 for l2, l1 for linf, linf for l1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relaxcert.errors import InvalidWeights
from relaxcert.lipschitz.directed import (
    UNDERFLOW,
    UNIT,
    gamma,
    multiply_up,
    scaled_to_one,
    tensor_up,
    times_power_of_two,
    up,
)
from relaxcert.lipschitz.spectral import verified_spectral_norm
from relaxcert.spec.ball import Norm

ORDER: dict[Norm, float] = {"l2": 2.0, "linf": math.inf, "l1": 1.0}
DUAL_ORDER: dict[Norm, float] = {"l2": 2.0, "linf": 1.0, "l1": math.inf}
_U = UNIT[torch.float64]
_CHUNK = 2**23  # numbers held at once while pairs are measured: 64 MiB


def checked_matrix(weight: Tensor, name: str) -> Tensor:
    """Return the weight as a float64 CPU matrix; refuse empty and non-finite ones."""
    if weight.numel() == 0:
        raise InvalidWeights(
            f"{name} has shape {tuple(weight.shape)}, which is empty: every layer needs at least "
            "one input and one output."
        )
    exact = weight.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(exact).all()):
        bad = int((~torch.isfinite(exact)).sum())
        raise InvalidWeights(
            f"{name} holds {bad} NaN or infinite values: no bound exists; train again or load "
            "weights that are finite."
        )
    return exact


def induced_norm(matrix: Tensor, norm: Norm) -> float:
    """Upper bound of sup ||W x|| / ||x||, both in ``norm``; shape (outputs, inputs), float64.

    l2: largest singular value; linf: largest absolute row sum; l1: largest absolute column sum.
    """
    if norm == "l2":
        return verified_spectral_norm(matrix)
    return _absolute_sum(matrix, 1 if norm == "linf" else 0)


def absolute_norm(matrix: Tensor, norm: Norm) -> float:
    """Upper bound of the induced norm of |W|: how far rounding errors may be carried.

    l2: min(||W||_F, sqrt(||W||_1 ||W||_inf)); l1 and linf: the same as of W itself.
    """
    if norm != "l2":
        return induced_norm(matrix, norm)
    row, column = _absolute_sum(matrix, 1), _absolute_sum(matrix, 0)
    induced = multiply_up(up(math.sqrt(row)), up(math.sqrt(column)))
    return min(vector_norm_up(matrix, 2.0), induced)


def vector_norm_up(values: Tensor, order: float) -> float:
    """Upper bound of the norm of all entries taken as one vector; 0 only if all are 0."""
    if not bool(values.any()):
        return 0.0
    scaled, exponent = scaled_to_one(values)
    inflate = up(1.0 + gamma(values.numel() + 4, _U))
    norm = multiply_up(float(torch.linalg.vector_norm(scaled, order)), inflate)
    return float(_unscaled(torch.tensor(norm + UNDERFLOW, dtype=torch.float64), exponent))


def row_norms(matrix: Tensor) -> Tensor:
    """Upper bound of the l2 norm of each row; shape (rows, columns) -> (rows,)."""
    scaled, exponent = scaled_to_one(matrix)
    norm = torch.linalg.vector_norm(scaled, dim=1) * up(1.0 + gamma(matrix.shape[1] + 5, _U))
    zero = ~matrix.any(1)
    return _unscaled(norm + UNDERFLOW, exponent).masked_fill(zero, 0.0)


def pair_distances(matrix: Tensor, norm: Norm) -> Tensor:
    """D[j, i] >= ||w_j - w_i|| in the dual of ``norm``; shape (classes, features) -> (C, C).

    Direct differences, never the Gram expansion, which cancels. Equal rows are at distance 0.
    """
    scaled, exponent = scaled_to_one(matrix)
    order = DUAL_ORDER[norm]
    classes, features = matrix.shape
    rows = max(1, _CHUNK // (classes * features))
    parts: list[Tensor] = []
    for start in range(0, classes, rows):
        difference = scaled[start : start + rows, None, :] - scaled[None, :, :]
        distance = torch.linalg.vector_norm(difference, order, dim=2)
        # Relative error: the difference, the powers, the sum, the root.
        distance = distance * up(1.0 + gamma(features + 5, _U)) + UNDERFLOW
        # Scaling may have pushed different tiny weights onto each other: ask the original ones.
        equal = (matrix[start : start + rows, None, :] == matrix[None, :, :]).all(2)
        parts.append(_unscaled(distance, exponent).masked_fill(equal, 0.0))
    return torch.cat(parts)


def _absolute_sum(matrix: Tensor, dim: int) -> float:
    """Upper bound of the largest sum of absolute values along ``dim``."""
    if not bool(matrix.any()):
        return 0.0
    scaled, exponent = scaled_to_one(matrix)
    total = float(scaled.abs().sum(dim).max())
    total = multiply_up(total, up(1.0 + gamma(matrix.shape[dim] + 1, _U))) + UNDERFLOW
    return float(_unscaled(torch.tensor(total, dtype=torch.float64), exponent))


def _unscaled(value: Tensor, exponent: int) -> Tensor:
    return tensor_up(times_power_of_two(value, exponent))
