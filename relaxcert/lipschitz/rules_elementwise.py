"""Rules of relaxcert's own small layers: Abs, Diagonal, Rearrange."""

from __future__ import annotations

import math

from torch import Tensor

from relaxcert.lipschitz.directed import up
from relaxcert.lipschitz.matrix import checked_matrix
from relaxcert.lipschitz.registry import Bound, Rounding, Rule, rule
from relaxcert.nn.elementwise import Abs, Diagonal
from relaxcert.nn.rearrange import Rearrange
from relaxcert.spec.ball import Norm


@rule(Abs)
class AbsRule(Rule[Abs]):
    """|x|, which never grows a difference: ||x| - |y|| <= |x - y|."""

    def verified(self, layer: Abs, norm: Norm) -> Bound:
        """Exactly 1."""
        return Bound(1.0, "1-Lipschitz by definition")

    def estimate(self, layer: Abs, norm: Norm, iterate: Tensor | None) -> tuple[float, None]:
        """Exactly 1."""
        return 1.0, None

    def rounding(self, layer: Abs, norm: Norm) -> Rounding:
        """None: a change of sign is exact."""
        return Rounding()


@rule(Diagonal)
class DiagonalRule(Rule[Diagonal]):
    """A diagonal matrix: max |factor| in every norm."""

    def verified(self, layer: Diagonal, norm: Norm) -> Bound:
        """max |factor|, exact."""
        factors = checked_matrix(layer.factors, "factors of Diagonal")
        return Bound(float(factors.abs().max()), "largest factor")

    def estimate(self, layer: Diagonal, norm: Norm, iterate: Tensor | None) -> tuple[Tensor, None]:
        """max |factor|."""
        return layer.factors.abs().amax(), None

    def rounding(self, layer: Diagonal, norm: Norm) -> Rounding:
        """One product: |computed - exact| <= u |computed| + eta; gamma_2 is more."""
        size = layer.factors.abs()
        exact = bool(((size == 0.0) | (size == 1.0)).all())
        return Rounding() if exact else Rounding(operations=2, output_gain=1.0)


@rule(Rearrange)
class RearrangeRule(Rule[Rearrange]):
    """Numbers are moved, left out, or repeated up to r times.

    ||R x||_2^2 = sum_i r_i x_i^2 <= r ||x||_2^2, likewise ||R x||_1 <= r ||x||_1; and repetition
    does not change the largest number.
    """

    def verified(self, layer: Rearrange, norm: Norm) -> Bound:
        """sqrt(r) in l2, r in l1, 1 in linf."""
        times = layer.repetitions
        if times == 1 or norm == "linf":
            return Bound(1.0, "numbers are only moved" if times == 1 else "a maximum is kept")
        value = float(times) if norm == "l1" else up(math.sqrt(times))
        return Bound(value, f"each number is repeated up to {times} times")

    def estimate(self, layer: Rearrange, norm: Norm, iterate: Tensor | None) -> tuple[float, None]:
        """The same number."""
        return self.verified(layer, norm).value, None

    def rounding(self, layer: Rearrange, norm: Norm) -> Rounding:
        """None: copies are exact."""
        return Rounding()
