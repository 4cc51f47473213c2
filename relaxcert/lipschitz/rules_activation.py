"""Rules of activations that act on each number by itself.

An elementwise function with |f'| <= c is c-Lipschitz in every norm.

Rounding of the transcendental ones rests on an assumption that IEEE-754 does not give: torch's
exp, expm1, tanh, erf, log1p, sin and cos are within 16 units in the last place of the truth (vector
libraries state 1 to 4; tests compare with mpmath). Numbers below 2^-125 may be lost (an exp that
overflows in float32 makes a sigmoid of 1e-39 zero), for which ``absolute`` pays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz.directed import up
from relaxcert.lipschitz.matrix import checked_matrix
from relaxcert.lipschitz.registry import Bound, Rounding, Rule, rule
from relaxcert.nn.householder import Householder
from relaxcert.spec.ball import Norm

ULPS = 16  # of a library function; twice as many units u
_LOST = 2.0**-125
# Largest |derivative|, rounded up; tests derive them with mpmath.
GELU_CONSTANT = 1.1289041451851549
GELU_TANH_CONSTANT = 1.128993068658772
SILU_CONSTANT = 1.0998393201288672
_MODERATE = 2.0**100  # factors beyond this (or its inverse) may leave float32


@dataclass(frozen=True)
class Smooth:
    """A smooth activation: its constant, and its rounding."""

    constant: float
    rounding: Rounding


# sigmoid, tanh: relative error of the result. x sigmoid(x), x Phi(x): relative to x, because
# 1 + erf cancels for negative x; the argument of GELU's tanh is a cubic with 8 roundings.
_RELATIVE = Rounding(operations=4 * ULPS, output_gain=1.0, absolute=_LOST)
_TO_INPUT = Rounding(operations=8 * ULPS, input_gain=1.0, absolute=_LOST)
_KINDS: dict[type[nn.Module], Smooth] = {
    nn.Tanh: Smooth(1.0, _RELATIVE),
    nn.Sigmoid: Smooth(0.25, _RELATIVE),
    nn.SiLU: Smooth(SILU_CONSTANT, _TO_INPUT),
    # x / (1 + |x|): a sum and a division, each relative to its result.
    nn.Softsign: Smooth(1.0, Rounding(operations=4, output_gain=1.0)),
}


@rule(nn.Tanh, nn.Sigmoid, nn.SiLU, nn.Softsign)
class SmoothRule(Rule[nn.Module]):
    """tanh, softsign: 1, at 0; sigmoid: 1/4; SiLU: its largest slope, at x = 2.3994."""

    def known(self, layer: nn.Module) -> Smooth:
        """The constants of this very layer."""
        return _KINDS[type(layer)]

    def verified(self, layer: nn.Module, norm: Norm) -> Bound:
        """The largest slope, in every norm."""
        return Bound(self.known(layer).constant, "largest slope of the activation")

    def estimate(self, layer: nn.Module, norm: Norm, iterate: Tensor | None) -> tuple[float, None]:
        """The same number."""
        return self.known(layer).constant, None

    def rounding(self, layer: nn.Module, norm: Norm) -> Rounding:
        """See the module's text."""
        return self.known(layer).rounding


@rule(nn.GELU)
class GELURule(SmoothRule):
    """x Phi(x), exactly or by tanh: the largest slope is at x = sqrt 2 (exact form)."""

    def known(self, layer: nn.Module) -> Smooth:
        """By the form that is computed."""
        exact = getattr(layer, "approximate", "none") == "none"
        return Smooth(GELU_CONSTANT if exact else GELU_TANH_CONSTANT, _TO_INPUT)


@rule(nn.Softplus)
class SoftplusRule(SmoothRule):
    """log(1 + exp(b x)) / b: slope below 1.

    torch returns x itself above a threshold t, which misses exp(-t) / b at most: that is counted as
    rounding, and the certificate speaks of the formula.
    """

    def known(self, layer: nn.Module) -> Smooth:
        """The threshold's error beside those of exp and log."""
        beta, threshold = float(getattr(layer, "beta", 1)), float(getattr(layer, "threshold", 20))
        if not 2.0**-20 <= beta <= 2.0**20 or not math.isfinite(threshold):
            raise UnsupportedLayer(f"{layer!r} has an odd beta or threshold; use beta=1.")
        missed = up(math.exp(-threshold) * (1.0 + 1e-12)) / beta * (1.0 + 1e-12)
        rounding = Rounding(
            operations=8 * ULPS, input_gain=1.0, output_gain=2.0, absolute=missed + _LOST
        )
        return Smooth(1.0, rounding)


@rule(nn.ELU)
class ELURule(SmoothRule):
    """max(x, 0) + a (exp(min(x, 0)) - 1): max(1, |a|), by expm1."""

    def known(self, layer: nn.Module) -> Smooth:
        """The result is relative to itself: one library function and one product.

        What the function may lose is multiplied.
        """
        slope = abs(float(getattr(layer, "alpha", 1.0)))
        if not (slope == 0.0 or 1.0 / _MODERATE <= slope <= _MODERATE):
            raise UnsupportedLayer(f"{layer!r}: alpha must be 0 or of a size from 2^-100 to 2^100.")
        largest = max(1.0, slope)
        return Smooth(largest, replace(_RELATIVE, absolute=_LOST * largest))


@rule(nn.Hardtanh)
class HardtanhRule(SmoothRule):
    """min(max(x, low), high): 1. float32 rounds the two numbers first."""

    def known(self, layer: nn.Module) -> Smooth:
        """Where one of the two counts, the result is within its rounding."""
        low, high = float(getattr(layer, "min_val", 0)), float(getattr(layer, "max_val", 0))
        if not -_MODERATE <= low < high <= _MODERATE:
            raise UnsupportedLayer(f"{layer!r}: expected min_val < max_val, up to 2^100 in size.")
        return Smooth(1.0, Rounding(operations=2, output_gain=1.0, absolute=_LOST))


@rule(nn.LeakyReLU)
class LeakyReLURule(Rule[nn.LeakyReLU]):
    """max(x, 0) + a min(x, 0): max(1, |a|)."""

    def verified(self, layer: nn.LeakyReLU, norm: Norm) -> Bound:
        """max(1, |a|), exactly."""
        slope = abs(layer.negative_slope)
        if not (slope == 0.0 or 1.0 / _MODERATE <= slope <= _MODERATE):
            raise UnsupportedLayer(
                f"{layer!r}: the slope must be 0 or between 2^-100 and 2^100 in size, because "
                "smaller and larger ones do not survive in float32."
            )
        return Bound(max(1.0, slope), "largest slope of the activation")

    def estimate(
        self, layer: nn.LeakyReLU, norm: Norm, iterate: Tensor | None
    ) -> tuple[float, None]:
        """max(1, |a|)."""
        return max(1.0, abs(layer.negative_slope)), None

    def rounding(self, layer: nn.LeakyReLU, norm: Norm) -> Rounding:
        """One product, of a slope that float32 rounds first."""
        return Rounding(operations=4, output_gain=1.0)


@rule(nn.PReLU)
class PReLURule(Rule[nn.PReLU]):
    """LeakyReLU with learned slopes."""

    def verified(self, layer: nn.PReLU, norm: Norm) -> Bound:
        """max(1, |a_c|) over the channels, exactly."""
        slopes = checked_matrix(layer.weight, "weight of PReLU")
        return Bound(max(1.0, float(slopes.abs().max())), "largest slope of the activation")

    def estimate(self, layer: nn.PReLU, norm: Norm, iterate: Tensor | None) -> tuple[Tensor, None]:
        """max(1, |a_c|), differentiable."""
        return layer.weight.abs().amax().clamp(min=1.0), None

    def rounding(self, layer: nn.PReLU, norm: Norm) -> Rounding:
        """One product."""
        return Rounding(operations=2, output_gain=1.0)


@rule(Householder)
class HouseholderRule(Rule[Householder]):
    """A continuous function whose two pieces are the identity and a reflection.

    l2: 1. A reflection of a plane has absolute row and column sums |cos t| + |sin t| <= sqrt 2.

    Rounding: sines and cosines are within 16 ulps of numbers below 1, so either coordinate of the
    reflected pair is within gamma_20 (|z_1| + |z_2|). Where the sign of v . z is computed wrongly,
    |v . z| is as small as that, and the two pieces differ by 2 |v . z|. Together at most six times.
    """

    def verified(self, layer: Householder, norm: Norm) -> Bound:
        """1 in l2, sqrt 2 in l1 and linf."""
        checked_matrix(layer.angles, "angles of Householder")
        if norm == "l2":
            return Bound(1.0, "identity or a reflection")
        return Bound(up(math.sqrt(2.0)), "sqrt 2, for the reflection of a pair")

    def estimate(
        self, layer: Householder, norm: Norm, iterate: Tensor | None
    ) -> tuple[float, None]:
        """The same number."""
        return (1.0 if norm == "l2" else math.sqrt(2.0)), None

    def rounding(self, layer: Householder, norm: Norm) -> Rounding:
        """See above."""
        return Rounding(operations=2 * ULPS + 8, input_gain=6.0)
