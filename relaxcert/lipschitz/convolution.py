"""Verified norms of convolutions, transposed convolutions and average pooling.

    conv = Convolution.of(layer, input_size)
    spectral_norm(conv).value        # l2, a torus around the zero-padded map: 0.1-0.5 % high at 32
    spectral_norm(conv, tight=True)  # l2, the zero-padded map itself: 1e-6, for small layers
    induced_norm(conv, "linf")

Every number is an upper bound in real arithmetic. Reshaped kernels (too low), AOL and tap sums (up
to three times too high) are not used, but for the row and column sums of l1 and linf.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.lipschitz.banded import tight_norm
from relaxcert.lipschitz.batched import batch_squared_norm
from relaxcert.lipschitz.convolution_map import Convolution, ConvolutionLayer
from relaxcert.lipschitz.convolution_symbol import absolute_taps, torus_norm, torus_size
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
from relaxcert.lipschitz.matrix import checked_matrix
from relaxcert.lipschitz.registry import Bound
from relaxcert.spec.ball import Norm

__all__ = [
    "Convolution",
    "ConvolutionLayer",
    "absolute_norm",
    "folded_residual",
    "induced_norm",
    "operations",
    "spectral_norm",
]

_U = UNIT[torch.float64]
_FLOOR = 2.0**-40


def spectral_norm(conv: Convolution, *, tight: bool = False) -> Bound:
    """Upper bound of the largest singular value of the true map, and how it was proved.

    The smallest of: all frequencies of a sufficient torus; sqrt(row sum * column sum); the norm of
    the summed absolute taps. ``tight`` adds a proof for the zero-padded map itself wherever that
    takes less than about two minutes (16 x 16 with 64 channels: seconds); larger maps, and circular
    ones (whose torus is exact), keep the torus. ``method`` says what was used.
    """
    if not bool(conv.weight.any()):
        return Bound(_error_norm(conv, "l2"), "zero kernel")
    weight, exponent = scaled_to_one(conv.weight)
    taps = absolute_taps(conv, weight)
    absolute, sums = _spectral_of_taps(taps), _root_of_sums(taps)
    sizes = " x ".join(str(torus_size(conv, dim)) for dim in range(len(conv.stride)))
    proofs = [
        Bound(sums, "sqrt(largest absolute row sum * largest absolute column sum)"),
        Bound(absolute, "Cholesky-verified norm of the summed absolute taps"),
        Bound(torus_norm(conv, weight, absolute), f"Cholesky-verified symbol on a {sizes} torus"),
    ]
    if tight:
        value = tight_norm(conv, weight, min(absolute, sums))
        proofs.append(Bound(value, "Cholesky-verified zero-padded map"))
    best = min(proofs, key=lambda proof: proof.value)
    return Bound(add_up(ldexp_up(best.value, exponent), _error_norm(conv, "l2")), best.method)


def induced_norm(conv: Convolution, norm: Norm) -> float:
    """Upper bound of sup ||T x|| / ||x||, both in ``norm``.

    linf: the largest sum of |taps| of one output, reached by every output that meets no border.
    l1: the largest sum over the taps that one input meets (those of its remainder modulo the
    stride). A transposed map exchanges the two.
    """
    if norm == "l2":
        return spectral_norm(conv).value
    return absolute_norm(conv, norm)


def absolute_norm(conv: Convolution, norm: Norm) -> float:
    """Upper bound of the induced norm of |T|: how far rounding errors may be carried.

    l2: the smaller of || sum_j |K_j| ||_2 (polyphase) and sqrt(row sum * column sum).
    """
    return add_up(_absolute(conv, conv.weight, norm), _error_norm(conv, norm))


def operations(conv: Convolution) -> int:
    """Roundings in one output: at most inputs / groups * taps products and sums, and the bias."""
    side = conv.weight.shape[0] // conv.groups if conv.transposed else conv.weight.shape[1]
    return side * math.prod(conv.kernel_size) + 1


def folded_residual(conv: Convolution, identity: float, scale: float = 1.0) -> Convolution:
    """The map ``identity * x + scale * conv(x)`` as one convolution.

    Its kernel is rounded in float64; ``error`` keeps what was lost, and every norm adds it.

    Raises:
        InvalidInput: x and conv(x) differ in shape, or no tap meets the output's own position.
    """
    channels = conv.weight.shape[1] * conv.groups
    centres = [
        pad[0] // d if pad[0] % d == 0 and 0 <= pad[0] // d < k else -1
        for k, d, pad in zip(conv.kernel_size, conv.dilation, conv.padding, strict=True)
    ]
    same = conv.output_size == conv.input_size and channels == conv.weight.shape[0]
    if not same or min(centres) < 0 or set(conv.stride) != {1}:
        raise InvalidInput(
            f"conv maps {channels} channels of size {conv.input_size} to {conv.weight.shape[0]} of "
            f"size {conv.output_size} with stride {conv.stride} and padding {conv.padding}; a "
            "linear residual needs equal shapes, stride 1 and a tap at the output's own position "
            "(an odd kernel with 'same' padding); bound the sum by the sum of the bounds instead."
        )
    scaled = conv.weight * scale
    # Both operations are rounded to nearest: |error| <= u |result| + eta; twice that, for the
    # rounding of this very bound.
    error = _rounding(scaled)
    if conv.error is not None:
        error = error + conv.error * abs(scale) + _rounding(conv.error * scale)
    weight = scaled.clone()
    outputs = torch.arange(channels)
    at = (outputs, outputs % conv.weight.shape[1], *centres)
    weight[at] += identity
    # The three sums above are of non-negative numbers: (1 + 8 u) covers them.
    error[at] += _rounding(weight[at])
    checked_matrix(weight, "weight of a folded residual")
    return Convolution(
        weight,
        conv.input_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        groups=conv.groups,
        circular=conv.circular,
        transposed=conv.transposed,
        error=error * (1.0 + 2.0**-50) + 2.0**-1074,
    )


def _rounding(value: Tensor) -> Tensor:
    """Twice the rounding error of one operation whose result is ``value``."""
    return value.abs() * 2.0**-52 + 2.0**-1074


def _error_norm(conv: Convolution, norm: Norm) -> float:
    """Upper bound of the norm of true map - stored map."""
    if conv.error is None:
        return 0.0
    # A map whose kernel is at most ``error`` elementwise has at most its absolute norm.
    return _absolute(dataclasses.replace(conv, error=None), conv.error, norm)


def _absolute(conv: Convolution, weight: Tensor, norm: Norm) -> float:
    if not bool(weight.any()):
        return 0.0
    scaled, exponent = scaled_to_one(weight)
    taps = absolute_taps(conv, scaled)
    if norm == "l2":
        return ldexp_up(min(_spectral_of_taps(taps), _root_of_sums(taps)), exponent)
    rows = (norm == "linf") != conv.transposed
    return ldexp_up(_largest_sum(taps, 2 if rows else 1), exponent)


def _spectral_of_taps(taps: Tensor) -> float:
    """|| sum_j |K_j| ||_2: the symbol of |T| at frequency 0, where it is largest."""
    return up(math.sqrt(batch_squared_norm(taps, torch.zeros_like(taps), _FLOOR)))


def _root_of_sums(taps: Tensor) -> float:
    """sqrt(||T||_1 ||T||_inf), from the sums of absolute taps."""
    return up(math.sqrt(multiply_up(_largest_sum(taps, 2), _largest_sum(taps, 1))))


def _largest_sum(taps: Tensor, dim: int) -> float:
    total = float(taps.sum(dim).max())
    return add_up(multiply_up(total, up(1.0 + gamma(taps.shape[dim] + 1, _U))), UNDERFLOW)
