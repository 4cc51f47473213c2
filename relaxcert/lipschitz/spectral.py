"""The verified spectral norm: an upper bound of ||W||_2 in real arithmetic, to about 1e-9.

Power iteration, SVD and Gram iteration end below or above the truth by unknown amounts. Here an
eigenvalue guess is *proved* by a Cholesky factorisation whose residual is bounded. Only
conventional matrix products are trusted; the factorisation may be anything, because L L^T is
positive semi-definite whatever L is.

References: Rump, BIT 46 (2006) and 51 (2011); Higham 2002, ch. 3, 10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relaxcert.lipschitz.directed import (
    UNDERFLOW,
    UNIT,
    add_up,
    gamma,
    ldexp_up,
    multiply_up,
    scaled_to_one,
    up,
)

_U = UNIT[torch.float64]
_FIRST_INCREMENT = 1e-9
_ATTEMPTS = 7


def verified_spectral_norm(matrix: Tensor) -> float:
    """Return an upper bound of the largest singular value of a finite, non-empty matrix.

    shape: (rows, columns), float64. The bound holds for the exact real matrix of the stored
    numbers; it is 0 only for the zero matrix and inf only where the norm exceeds float64.
    """
    if not bool(matrix.any()):
        return 0.0
    scaled, exponent = scaled_to_one(matrix.detach().to("cpu", torch.float64))
    tall = scaled if scaled.shape[0] >= scaled.shape[1] else scaled.mT
    squared = min(_squared_elementary_bound(tall), _squared_by_cholesky(tall))
    return ldexp_up(up(math.sqrt(squared)), exponent)


def _squared_elementary_bound(matrix: Tensor) -> float:
    """min(||W||_F^2, ||W||_1 ||W||_inf), an upper bound of ||W||_2^2 and of || |W| ||_2^2."""
    absolute = matrix.abs()
    rows, columns = matrix.shape
    inflate = up(1.0 + gamma(rows * columns + 2, _U))
    frobenius = multiply_up(float(matrix.square().sum()), inflate)
    induced = multiply_up(
        float(absolute.sum(0).max()), float(absolute.sum(1).max()), inflate, inflate
    )
    return add_up(min(frobenius, induced), UNDERFLOW)


def _squared_by_cholesky(tall: Tensor) -> float:
    """Upper bound of ||W||_2^2 for W scaled to about 1, shape (inner, n) with inner >= n.

    With G = fl(W^T W) (symmetric by mirroring), c >= lambda_max(G) guessed, A = fl(c I - G) and
    any L, for instance the Cholesky factor of A:

        ||W||_2^2 <= c + gamma_inner min(||W||_F^2, ||W||_1 ||W||_inf) + u max|a_ii|
                       + ||A - L L^T||_F + gamma_(n+1) ||L||_F^2 + underflow
    """
    inner, n = tall.shape
    gram = tall.mT @ tall
    gram = gram.tril() + gram.tril(-1).mT
    guess = _largest_eigenvalue(gram)
    product_error = multiply_up(gamma(inner, _U), _squared_elementary_bound(tall))
    increment = _FIRST_INCREMENT
    for _ in range(_ATTEMPTS):
        shift = guess * (1.0 + increment)
        shifted = -gram
        shifted.diagonal().add_(shift)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if int(failed) == 0 and bool(torch.isfinite(factor).all()):
            residual = shifted - factor @ factor.mT
            return add_up(
                shift,
                product_error,
                multiply_up(_U, float(shifted.diagonal().abs().max())),
                _frobenius_up(residual),
                multiply_up(gamma(n + 1, _U), _frobenius_up(factor), _frobenius_up(factor)),
                UNDERFLOW,
            )
        increment *= 10.0
    return math.inf


def _largest_eigenvalue(gram: Tensor) -> float:
    """A guess at the largest eigenvalue; it is checked afterwards, so no trust is needed."""
    try:
        return float(torch.linalg.eigvalsh(gram)[-1])
    except RuntimeError:
        return float(gram.abs().sum(1).max())


def _frobenius_up(matrix: Tensor) -> float:
    # One further u covers the subtraction by which a residual was formed.
    inflate = up(1.0 + gamma(matrix.numel() + 4, _U))
    return add_up(multiply_up(float(torch.linalg.matrix_norm(matrix)), inflate), UNDERFLOW)
