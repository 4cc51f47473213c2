"""Rules of layers that multiply each number by a constant."""

from __future__ import annotations

from torch import Tensor

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz.registry import Bound, Rounding, Rule, rule
from relaxcert.nn.shapes import Scale
from relaxcert.spec.ball import Norm


@rule(Scale)
class ScaleRule(Rule[Scale]):
    """factor * x: |factor| in every norm."""

    def verified(self, layer: Scale, norm: Norm) -> Bound:
        """|factor|, exactly."""
        if layer.factor != 0.0 and not 2.0**-100 <= abs(layer.factor) <= 2.0**100:
            raise UnsupportedLayer(
                f"{layer!r}: the factor must be 0 or between 2^-100 and 2^100 in size, because "
                "smaller and larger ones do not survive in float32."
            )
        return Bound(abs(layer.factor), "absolute value of the factor")

    def estimate(self, layer: Scale, norm: Norm, iterate: Tensor | None) -> tuple[float, None]:
        """|factor|."""
        return abs(layer.factor), None

    def rounding(self, layer: Scale, norm: Norm) -> Rounding:
        """One product; in float32 the factor itself is rounded first."""
        return Rounding(operations=3, output_gain=1.0)
