"""Rules of convolutions, transposed convolutions and average pooling."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput, UnsupportedLayer
from relaxcert.lipschitz.convolution import (
    absolute_norm,
    induced_norm,
    operations,
    spectral_norm,
)
from relaxcert.lipschitz.convolution_map import Convolution, dimensions_of
from relaxcert.lipschitz.directed import multiply_up, up
from relaxcert.lipschitz.live_convolution import Weighted, spectral_estimate, sum_estimate
from relaxcert.lipschitz.matrix import ORDER, checked_matrix, vector_norm_up
from relaxcert.lipschitz.power import unit_vector
from relaxcert.lipschitz.registry import Bound, Rounding, Rule, rule
from relaxcert.spec.ball import Norm

Shape = tuple[int, ...]
# Numbers of the dense matrix up to which the zero-padded map itself costs milliseconds.
_ALWAYS_TIGHT = 2**18


class ShapedRule(Rule[Any]):
    """A rule of layers whose bound depends on the shape of their input, (channels, *size)."""

    needs_shape = True

    def __init__(self, shape: Shape | None = None, *, tight: bool = False) -> None:
        self.shape = shape
        self.tight = tight

    def at(self, shape: Shape) -> Rule[Any]:
        """The rule for one shape."""
        return type(self)(shape, tight=self.tight)

    def tightened(self) -> Rule[Any]:
        """The rule that takes seconds where that gives a smaller bound."""
        return type(self)(self.shape, tight=True)

    def size_for(self, layer: nn.Module) -> Shape:
        """The spatial size; refuses shapes in which the batch would pass for channels."""
        if self.shape is None:
            raise InvalidInput(
                f"the bound of {type(layer).__name__} depends on the shape of its input, which is "
                "not known: give input_shape, or use rule.at(shape)."
            )
        dims = dimensions_of(layer)
        if len(self.shape) != dims + 1:
            raise UnsupportedLayer(
                f"{layer!r} gets points of shape {self.shape}, expected {dims + 1} dimensions "
                "(channels and size): torch would take the batch for the channels and mix points."
            )
        return self.shape[1:]


@rule(
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
class ConvolutionRule(ShapedRule):
    """Convolutions with stride, zero or circular padding, dilation and groups, and transposed."""

    def verified(self, layer: Weighted, norm: Norm) -> Bound:
        """l2: all frequencies of a sufficient torus; linf, l1: sums of absolute taps."""
        self._checked_bias(layer)
        return bound_of(self._map(layer), norm, tight=self.tight)

    def estimate(
        self, layer: Weighted, norm: Norm, iterate: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """l2: the power method on the operator itself; linf and l1: sums of absolute taps."""
        if norm != "l2":
            return sum_estimate(layer, rows=norm == "linf"), None
        if iterate is None:
            raise InvalidInput(
                "the power method needs the shape of the input: give input_shape to GloRoNet."
            )
        return spectral_estimate(layer, iterate)

    def rounding(self, layer: Weighted, norm: Norm) -> Rounding:
        """gamma_n (|| |T| || ||h|| + ||b|| at all places), n = products of one output and bias."""
        conv = self._map(layer)
        bias = self._checked_bias(layer)
        offset = 0.0
        if bias is not None:
            places = math.prod(conv.layer_output_size)
            offset = repeated_norm_up(vector_norm_up(bias, ORDER[norm]), places, norm)
        gain = absolute_norm(conv, norm)
        return Rounding(operations(conv), gain, offset=offset, offset_is_total=True)

    def initial_iterate(self, layer: Weighted) -> Tensor | None:
        """A unit vector in the layer's input space, (1, channels, *size)."""
        if self.shape is None:
            return None
        self.size_for(layer)
        generator = torch.Generator().manual_seed(math.prod(self.shape))
        return unit_vector(torch.randn(1, *self.shape, generator=generator))

    def _map(self, layer: Weighted) -> Convolution:
        return Convolution.of(layer, self.size_for(layer))

    @staticmethod
    def _checked_bias(layer: Weighted) -> Tensor | None:
        if layer.bias is None:
            return None
        return checked_matrix(layer.bias, f"bias of {type(layer).__name__}")


@rule(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
class AveragePoolRule(ShapedRule):
    """Average pooling: a convolution of every channel with equal taps."""

    def verified(self, layer: nn.Module, norm: Norm) -> Bound:
        """As a convolution of one channel."""
        return bound_of(self.map_of(layer), norm, tight=self.tight)

    def estimate(self, layer: nn.Module, norm: Norm, iterate: Tensor | None) -> tuple[float, None]:
        """linf: 1; l1: the windows that share an input over their size; l2: the norm itself.

        The map is a product of one sum of windows a dimension, so its l2 norm is the product of
        theirs. No weights, so plain numbers. (A divisor of the layer's own counts in place of the
        size.)
        """
        kernel, stride, padding, divisor = self.windows_of(layer)
        if norm == "l2":
            dims = zip(self.size_for(layer), kernel, stride, padding, strict=True)
            return math.prod([_norm_of_windows(*dim) for dim in dims]) / divisor, None
        shared = math.prod([-(-k // s) for k, s in zip(kernel, stride, strict=True)])
        return (math.prod(kernel) if norm == "linf" else shared) / divisor, None

    def windows_of(self, layer: Any) -> tuple[Shape, Shape, Shape, int]:
        """Kernel, stride and padding of each dimension, and by what a sum is divided."""
        dims = dimensions_of(layer)
        kernel, stride, padding = (
            (value,) * dims if isinstance(value, int) else tuple(value)
            for value in (layer.kernel_size, layer.stride, layer.padding)
        )
        divisor = getattr(layer, "divisor_override", None) or math.prod(kernel)
        return kernel, stride, padding, divisor

    def rounding(self, layer: nn.Module, norm: Norm) -> Rounding:
        """One sum of k numbers and one division."""
        conv = self.map_of(layer)
        return Rounding(operations(conv) + 2, absolute_norm(conv, norm))

    def map_of(self, layer: Any) -> Convolution:
        """The map of one channel."""
        return Convolution.of(layer, self.size_for(layer))


@rule(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
class AdaptiveAveragePoolRule(AveragePoolRule):
    """Adaptive average pooling to sizes that divide the input's: plain average pooling."""

    def map_of(self, layer: Any) -> Convolution:
        """Windows of input / output positions, one after another."""
        size = self.size_for(layer)
        kernel = self.windows_of(layer)[0]
        pool = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[len(size)]
        return Convolution.of(pool(kernel, kernel), size)  # pyright: ignore[reportArgumentType]

    def windows_of(self, layer: Any) -> tuple[Shape, Shape, Shape, int]:
        """Kernel and stride are input / output positions; no padding."""
        size = self.size_for(layer)
        wanted: Any = layer.output_size
        listed: list[Any] = [wanted] * len(size) if isinstance(wanted, int) else list(wanted)
        outputs = [n if o is None else int(o) for n, o in zip(size, listed, strict=True)]
        if any(o < 1 or n % o for n, o in zip(size, outputs, strict=True)):
            raise UnsupportedLayer(
                f"{layer!r} on size {size} averages over windows of different sizes; use an "
                "output size that divides the input's, such as 1."
            )
        kernel = tuple(n // o for n, o in zip(size, outputs, strict=True))
        return kernel, kernel, (0,) * len(kernel), math.prod(kernel)


# In compiled code a number that is found once a compilation.
@torch.compiler.assume_constant_result
def _norm_of_windows(size: int, kernel: int, stride: int, padding: int) -> float:
    """Spectral norm of the sums over the windows of a line."""
    return _singular_value(size, kernel, stride, padding)


@functools.lru_cache(1024)
def _singular_value(size: int, kernel: int, stride: int, padding: int) -> float:
    starts = torch.arange((size + 2 * padding - kernel) // stride + 1) * stride - padding
    places = torch.arange(size)
    inside = (places >= starts[:, None]) & (places < starts[:, None] + kernel)
    return float(torch.linalg.matrix_norm(inside.double(), 2))


def bound_of(conv: Convolution, norm: Norm, *, tight: bool) -> Bound:
    """The bound of a map in one norm; small maps are always proved tightly."""
    if norm == "l2":
        rows = conv.weight.shape[0] * math.prod(conv.output_size)
        columns = conv.weight.shape[1] * conv.groups * math.prod(conv.input_size)
        return spectral_norm(conv, tight=tight or rows * columns <= _ALWAYS_TIGHT)
    line = "row" if norm == "linf" else "column"
    return Bound(induced_norm(conv, norm), f"largest absolute {line} sum of the taps")


def repeated_norm_up(value: float, places: int, norm: Norm) -> float:
    """Upper bound of the norm of ``places`` copies of a vector of norm ``value``."""
    if norm == "linf":
        return value
    return multiply_up(value, float(places) if norm == "l1" else up(math.sqrt(places)))
