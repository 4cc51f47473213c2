"""Rule of nearest-neighbour upsampling, which writes every number several times."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from relaxcert.errors import InvalidInput, UnsupportedLayer
from relaxcert.lipschitz.directed import up
from relaxcert.lipschitz.registry import Bound, Rounding, rule
from relaxcert.lipschitz.rules_convolution import ShapedRule
from relaxcert.spec.ball import Norm

# torch finds sources by a product with 1 / scale in float32, which is exact for powers of two.
_SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)


@rule(nn.Upsample, nn.UpsamplingNearest2d)
class UpsampleRule(ShapedRule):
    """Every number r times: ||y||_2 = sqrt(r) ||x||_2, ||y||_1 = r ||x||_1."""

    def verified(self, layer: nn.Upsample, norm: Norm) -> Bound:
        """sqrt(r) in l2, r in l1, 1 in linf."""
        times = self._copies(layer)
        root = math.isqrt(times)
        exact = float(root) if root * root == times else up(math.sqrt(times))
        value = {"l2": exact, "l1": float(times), "linf": 1.0}[norm]
        return Bound(value, f"every number is written {times} times")

    def estimate(
        self, layer: nn.Upsample, norm: Norm, iterate: Tensor | None
    ) -> tuple[float, None]:
        """The same number."""
        return self.verified(layer, norm).value, None

    def rounding(self, layer: nn.Upsample, norm: Norm) -> Rounding:
        """None: copies are exact."""
        return Rounding()

    def _copies(self, layer: nn.Upsample) -> int:
        """r, the product of the scales of all dimensions but the channels."""
        if self.shape is None:
            raise InvalidInput(
                f"the bound of {type(layer).__name__} depends on the shape of its input, which is "
                "not known: give input_shape, or use rule.at(shape)."
            )
        dims, given = len(self.shape) - 1, vars(layer).get("scale_factor")
        scales: tuple[Any, ...] = given if isinstance(given, tuple) else (given,) * dims
        plain = layer.size is None and layer.mode == "nearest" and len(scales) == dims >= 1
        if not plain or any(scale not in _SCALES for scale in scales):
            raise UnsupportedLayer(
                f"{layer!r} on points of shape {self.shape}: only nearest neighbours by scale "
                "factors that are powers of two up to 16 are bounded, not interpolation, not other "
                "sizes."
            )
        return int(math.prod(scales))
