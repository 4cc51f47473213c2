"""Verified norms of many complex matrices at once, by Cholesky factors with bounded residuals.

The complex form of :mod:`relaxcert.lipschitz.spectral`. Complex arithmetic itself is not trusted:
every product that the proof needs is one *real* matrix product of twice the inner length, as in the
real embedding [[Re, -Im], [Im, Re]]:

    Re(A A^H) = [Re, Im] [Re, Im]^T        Im(A A^H) = [Im, -Re] [Re, Im]^T

With inner length m for A, either part is within gamma_2m of sums whose Frobenius norm is at most
||A||_F^2, so the complex matrix is within sqrt(2) gamma_2m ||A||_F^2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relaxcert.lipschitz.directed import UNDERFLOW, UNIT, add_up, gamma, multiply_up, up

_U = UNIT[torch.float64]
_FIRST_INCREMENT = 1e-9
_ATTEMPTS = 7
_POWER_STEPS = 8
_CANDIDATES = 8
_SMALL = 128  # rows up to which an eigenvalue solver is cheap
_SQRT2 = up(math.sqrt(2.0))


def batch_squared_norm(real: Tensor, imag: Tensor, floor: float) -> float:
    """An upper bound of the largest ||A||_2^2 of a batch, at least ``floor`` > 0.

    shape: (batch, rows, columns), float64, entries scaled to about 1. For A with no more rows than
    columns, G = fl(A A^H), any c, H = fl(c I - G), any L:

        ||A||_2^2 <= c + sqrt(2) gamma_2m ||A||_F^2 + u max|h_ii|
                       + ||H - L L^H||_F + sqrt(2) gamma_(2n+1) ||L||_F^2 + underflow

    One c serves all; matrices for which it fails raise it. inf if no factor is found.
    """
    if real.shape[1] > real.shape[2]:
        real, imag = real.mT, imag.mT
    gram = _gram(real, imag)
    product_error = multiply_up(
        _SQRT2, gamma(2 * real.shape[2], _U), _squared_up(torch.stack([real, imag], 1))
    )
    shift = max(floor, _guess(gram, floor) * (1.0 + _FIRST_INCREMENT))
    increment, worst = _FIRST_INCREMENT, floor
    for _ in range(_ATTEMPTS):
        shifted = -gram
        shifted.diagonal(dim1=1, dim2=2).add_(shift)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        passed = (failed == 0) & torch.isfinite(torch.view_as_real(factor)).flatten(1).all(1)
        if bool(passed.any()):
            error = _factor_error(shifted[passed], factor[passed])
            worst = max(worst, add_up(shift, product_error, error))
        if bool(passed.all()):
            return worst
        gram = gram[~passed]
        shift = max(shift, _largest_eigenvalue(gram)) * (1.0 + increment)
        increment *= 10.0
    return math.inf


def _gram(real: Tensor, imag: Tensor) -> Tensor:
    """fl(A A^H), exactly Hermitian: the lower triangle is mirrored."""
    rows = torch.cat([real, imag], 2)
    re = rows @ rows.mT
    im = (torch.cat([imag, -real], 2) @ rows.mT).tril(-1)
    return torch.complex(re.tril() + re.tril(-1).mT, im - im.mT)


def _factor_error(shifted: Tensor, factor: Tensor) -> float:
    """u max|h_ii| + ||H - L L^H||_F + sqrt(2) gamma_(2n+1) ||L||_F^2, the largest of the batch."""
    n = factor.shape[1]
    rows = torch.cat([factor.real, factor.imag], 2)
    turned = torch.cat([factor.imag, -factor.real], 2)
    residual = torch.stack([shifted.real - rows @ rows.mT, shifted.imag - turned @ rows.mT], 1)
    diagonal = float(shifted.diagonal(dim1=1, dim2=2).real.abs().max())
    return add_up(
        multiply_up(_U, diagonal),
        up(math.sqrt(_squared_up(residual))),
        multiply_up(_SQRT2, gamma(2 * n + 1, _U), _squared_up(rows)),
        UNDERFLOW,
    )


def _squared_up(parts: Tensor) -> float:
    """Upper bound of the largest sum of squares of one item of the batch."""
    count = parts[0].numel()
    # Four further operations cover the subtraction by which a residual was formed.
    squares = float(parts.flatten(1).square().sum(1).max())
    return add_up(multiply_up(squares, up(1.0 + gamma(count + 8, _U))), UNDERFLOW)


def _guess(gram: Tensor, floor: float) -> float:
    """A guess at the largest eigenvalue of the batch; checked afterwards, so it may be wrong.

    A few power steps, which end below the truth, find the likely matrices. Only where they pass
    ``floor``, which would surely fail, those few get an eigenvalue solver.
    """
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(gram.shape[1], 1, dtype=gram.dtype, generator=generator)
    vector = vector.expand(gram.shape[0], -1, -1)
    size = torch.ones(gram.shape[0], dtype=torch.float64)
    for _ in range(_POWER_STEPS):
        vector = gram @ vector
        size = torch.linalg.vector_norm(vector, dim=(1, 2))
        vector = vector / size.clamp_min(torch.finfo(size.dtype).tiny)[:, None, None]
    if float(size.max()) < floor:
        return floor
    candidates = _CANDIDATES if gram.shape[1] <= _SMALL else 1
    return _largest_eigenvalue(gram[size.topk(min(candidates, len(size))).indices])


def _largest_eigenvalue(gram: Tensor) -> float:
    try:
        return float(torch.linalg.eigvalsh(gram)[:, -1].max())
    except RuntimeError:
        return float(gram.abs().sum(2).max())
