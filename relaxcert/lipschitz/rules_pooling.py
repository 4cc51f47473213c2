"""Rules of maximum pooling."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz.directed import up
from relaxcert.lipschitz.registry import Bound, Rounding, Rule, rule
from relaxcert.spec.ball import Norm


@rule(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
class MaxPoolRule(Rule[Any]):
    """Maxima of windows, which overlap where the kernel is longer than the stride.

    |max over w of x - max over w of y| <= max over w of |x - y|, and an input lies in at most

        m = product over dimensions of ceil(k / (s / gcd(s, d)))

    windows: those taps whose offsets d j have the same remainder modulo s. Summed over the windows,
    l1 grows by at most m, l2 by sqrt(m) (in two dimensions, without dilation: ceil(k / s)), and
    linf not at all.
    """

    def verified(self, layer: Any, norm: Norm) -> Bound:
        """m in l1, sqrt(m) in l2, 1 in linf."""
        if layer.return_indices:
            raise UnsupportedLayer(f"{layer!r} returns indices: set return_indices=False.")
        shared = windows_of_one_input(layer)
        if norm == "linf" or shared == 1:
            return Bound(1.0, "maxima of windows" if norm == "linf" else "windows do not overlap")
        root = math.isqrt(shared)
        exact = float(root) if root * root == shared else up(math.sqrt(shared))
        return Bound(
            float(shared) if norm == "l1" else exact, f"an input lies in up to {shared} windows"
        )

    def estimate(self, layer: Any, norm: Norm, iterate: Tensor | None) -> tuple[float, None]:
        """The same number."""
        return self.verified(layer, norm).value, None

    def rounding(self, layer: Any, norm: Norm) -> Rounding:
        """None: comparisons are exact."""
        return Rounding()


@rule(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
class AdaptiveMaxPoolRule(MaxPoolRule):
    """The maximum of each channel: 1-Lipschitz in every norm."""

    def verified(self, layer: Any, norm: Norm) -> Bound:
        """1 for output size 1; other sizes have windows that may overlap and are refused."""
        wanted = layer.output_size
        sizes = (wanted,) if isinstance(wanted, int) else tuple(wanted)
        if layer.return_indices or any(size != 1 for size in sizes):
            raise UnsupportedLayer(
                f"{layer!r}: only adaptive maximum pooling to size 1, without indices, has a rule; "
                "use nn.MaxPool."
            )
        return Bound(1.0, "one maximum a channel")


def windows_of_one_input(layer: Any) -> int:
    """m: in how many windows an input may lie."""
    sizes = (layer.kernel_size, layer.stride, layer.dilation)
    dims = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}[type(layer)]
    kernel, stride, dilation = ((s,) * dims if isinstance(s, int) else tuple(s) for s in sizes)
    # A list, because torch.compile follows no generator into math.prod.
    return math.prod(
        [-(-k // (s // math.gcd(s, d))) for k, s, d in zip(kernel, stride, dilation, strict=True)]
    )
