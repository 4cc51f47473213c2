"""Witnesses of spectral norms: what makes a bound checkable by products alone.

For a bound b of W (columns: the smaller side) the witness is any lower triangular L with

    R = b^2 I - W^T W - L L^T,      r_ii >= sum over j != i of |r_ij|      (Gershgorin: R is PSD)

so that b^2 I - W^T W = L L^T + R is positive semi-definite. L is the Cholesky factor of
(b^2 - delta) I - W^T W in float64: delta leaves room for its rounding, and the bound, which lies a
part in 1e9 above the norm, leaves room for delta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxcert.lipschitz.directed import scaled_to_one, times_power_of_two

_SHARES = (5e-10, 2e-10, 5e-11, 1e-11, 2e-12, 4e-13)  # delta / b^2, largest first
_CAUTION = 4.0  # by how much r_ii must exceed the other entries, as computed


@dataclass(frozen=True, slots=True)
class Factor:
    """L = lower * 2^exponent; ``lower`` (n, n), float64."""

    lower: Tensor
    exponent: int

    def packed(self) -> bytes:
        """The rows of the triangle one after the other, float64 little-endian."""
        side = len(self.lower)
        rows, columns = torch.tril_indices(side, side)
        return self.lower[rows, columns].numpy().astype("<f8").tobytes()


def spectral_witness(weight: Tensor, bound: float) -> Factor | None:
    """The factor that proves ``bound`` >= ||W||_2; None if plain sums of the entries prove it.

    A bound that a factor cannot prove is one of ||W||_F or sqrt(||W||_1 ||W||_inf), which the
    verified norm falls back to and a checker recomputes.
    """
    if not bool(weight.any()) or not math.isfinite(bound):
        return None
    scaled, exponent = scaled_to_one(weight.detach().to("cpu", torch.float64))
    tall = scaled if scaled.shape[0] >= scaled.shape[1] else scaled.mT
    limit = times_power_of_two(torch.tensor(bound, dtype=torch.float64), -exponent)
    square = float(limit * limit)
    gram = tall.mT @ tall
    gram = gram.tril() + gram.tril(-1).mT
    for share in _SHARES:
        shifted = -gram
        shifted.diagonal().add_(square * (1.0 - share))
        lower, failed = torch.linalg.cholesky_ex(shifted)
        if int(failed) == 0 and _dominated(square, gram, lower):
            return Factor(lower, exponent)
    return None


def _dominated(square: float, gram: Tensor, lower: Tensor) -> bool:
    rest = -gram - lower @ lower.mT
    rest.diagonal().add_(square)
    others = rest.abs().sum(1) - rest.diagonal().abs()
    return bool((rest.diagonal() > _CAUTION * others).all())
