"""Convolutions as linear maps: what a layer computes, freed from torch's ways of saying it.

One map covers all layers. For output position q and tap j, in every spatial dimension,

    y[o, q] = sum over i, j of weight[o, i, j] x[i, stride q + dilation j - left]

where x is 0 outside its size (or wraps round). A transposed convolution is the transpose of such a
map: the same spectral norm, with l1 and linf exchanged. Average pooling acts on every channel
alike, so the map of one channel has its norm.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput, UnsupportedLayer, UnsupportedPrecision
from relaxcert.lipschitz.directed import fraction_up
from relaxcert.lipschitz.matrix import checked_matrix

ConvolutionLayer = (
    nn.Conv1d
    | nn.Conv2d
    | nn.Conv3d
    | nn.ConvTranspose1d
    | nn.ConvTranspose2d
    | nn.ConvTranspose3d
    | nn.AvgPool1d
    | nn.AvgPool2d
    | nn.AvgPool3d
)
Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False, slots=True)
class Convolution:
    """A linear map; see the module's formula. Made by :meth:`of`.

    weight: (outputs, inputs / groups, *kernel), float64 on the CPU. For a transposed layer all
    fields describe the convolution of which it is the transpose. ``padding`` holds (left, right) of
    each dimension; a negative right side says that the last positions are not read. ``error``, if
    given, bounds |true weight - weight| elementwise (a kernel that was computed with rounding).
    """

    weight: Tensor
    input_size: Ints
    stride: Ints
    padding: Pads
    dilation: Ints
    groups: int = 1
    circular: bool = False
    transposed: bool = False
    error: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse what has no outputs, and circular padding that fits no torus."""
        checked_matrix(self.weight, "weight of a convolution")
        if self.weight.dtype != torch.float64 or self.weight.device.type != "cpu":
            raise UnsupportedPrecision(
                f"weight is {self.weight.dtype} on {self.weight.device}; expected float64 on the "
                "CPU: use Convolution.of, which converts exactly."
            )
        if self.groups < 1 or self.weight.shape[0] % self.groups:
            raise InvalidInput(
                f"groups is {self.groups}; expected a divisor of the "
                f"{self.weight.shape[0]} outputs."
            )
        lengths = {len(v) for v in (self.stride, self.padding, self.dilation, self.kernel_size)}
        if lengths != {len(self.input_size)} or min(self.input_size) < 1:
            raise InvalidInput(
                f"input_size is {self.input_size}; expected {len(self.kernel_size)} positive "
                "numbers, the spatial size of the layer's input without batch and channels."
            )
        if min(self.output_size) < 1:
            raise InvalidInput(
                f"input_size {self.input_size} is smaller than the kernel {self.kernel_size} with "
                f"dilation {self.dilation} and padding {self.padding}: there is no output; use "
                "larger inputs or more padding."
            )
        for dim in range(len(self.input_size)):
            self._refuse_if_no_torus(dim)

    @classmethod
    def of(cls, layer: ConvolutionLayer, input_size: Sequence[int]) -> Convolution:
        """The map of a layer on inputs of this spatial size (the layer's own input).

        Raises:
            InvalidWeights: empty, NaN or infinite weights.
            UnsupportedLayer: padding, ceil_mode or averaging that is no convolution.
            InvalidInput: a size that does not fit the layer.
        """
        if len(input_size) != dimensions_of(layer):
            raise InvalidInput(
                f"input_size is {tuple(input_size)}; expected {dimensions_of(layer)} numbers for "
                f"{type(layer).__name__}: the spatial size without batch and channels."
            )
        if isinstance(layer, (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)):
            return _of_pool(layer, input_size)
        if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            return _of_transposed(layer, input_size)
        if layer.padding_mode not in ("zeros", "circular") and any(map(any, pads_of(layer))):
            raise UnsupportedLayer(
                f"padding_mode is {layer.padding_mode!r}, which repeats inputs at the border and "
                "so raises the norm by an amount for which no bound is implemented; use "
                "padding_mode='zeros' or 'circular'."
            )
        return cls(
            _weight(layer),
            tuple(input_size),
            tuple(layer.stride),
            pads_of(layer),
            tuple(layer.dilation),
            groups=layer.groups,
            circular=layer.padding_mode == "circular",
        )

    @property
    def kernel_size(self) -> Ints:
        """The number of taps in each dimension."""
        return tuple(self.weight.shape[2:])

    @property
    def extent(self) -> Ints:
        """dilation (kernel - 1) + 1: the positions that the kernel spans."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True))

    @property
    def output_size(self) -> Ints:
        """floor((input + left + right - extent) / stride) + 1."""
        parts = zip(self.input_size, self.padding, self.extent, self.stride, strict=True)
        return tuple((n + sum(pad) - k) // s + 1 for n, pad, k, s in parts)

    @property
    def layer_output_size(self) -> Ints:
        """The spatial size of what the layer itself returns."""
        return self.input_size if self.transposed else self.output_size

    def wraps(self, dim: int) -> bool:
        """Whether this dimension is circular; without padding nothing is ever wrapped."""
        return self.circular and any(self.padding[dim])

    def offsets(self) -> list[Ints]:
        """``dilation j - left`` of every tap, in the order of ``weight.flatten(2)``."""
        parts = zip(self.kernel_size, self.dilation, self.padding, strict=True)
        return list(itertools.product(*([d * j - pad[0] for j in range(k)] for k, d, pad in parts)))

    def _refuse_if_no_torus(self, dim: int) -> None:
        n, s, outputs = self.input_size[dim], self.stride[dim], self.output_size[dim]
        if self.wraps(dim) and (n % s or s * outputs > n):
            raise UnsupportedLayer(
                f"padding_mode='circular' with input size {n}, stride {s} and {outputs} outputs in "
                f"dimension {dim} is no convolution on a torus: the stride must divide the "
                "input size, and there may be at most input / stride outputs; change the size or "
                "the padding."
            )


def dimensions_of(layer: nn.Module) -> int:
    """1, 2 or 3: the number of spatial dimensions of a layer."""
    flat = isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d))
    solid = isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d))
    return 1 if flat else 3 if solid else 2


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        kind = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
        raise UnsupportedPrecision(
            f"weight of {type(layer).__name__} is {kind}; expected real floating-point numbers."
        )
    return checked_matrix(weight, f"weight of {type(layer).__name__}")


def pads_of(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Pads:
    """(left, right) of each spatial dimension."""
    if layer.padding == "valid":
        return tuple((0, 0) for _ in layer.kernel_size)
    if isinstance(layer.padding, str):
        # "same": torch puts the odd one on the right.
        spans = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return tuple((span // 2, span - span // 2) for span in spans)
    return tuple((p, p) for p in layer.padding)


def _of_transposed(
    layer: nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d, input_size: Sequence[int]
) -> Convolution:
    """The convolution from the layer's output to its input, of the same weight.

    size = (n - 1) stride - 2 p + extent + output_padding; a right padding of p - output_padding
    makes the convolution return n positions again, so nothing is counted that the layer lacks.
    """
    weight = _weight(layer)
    padding: Ints = tuple(int(p) for p in layer.padding)
    parts = zip(
        input_size,
        layer.stride,
        padding,
        layer.output_padding,
        layer.dilation,
        layer.kernel_size,
        strict=True,
    )
    sizes = tuple((n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, s, p, o, d, k in parts)
    return Convolution(
        weight,
        sizes,
        tuple(layer.stride),
        tuple((p, p - o) for p, o in zip(padding, layer.output_padding, strict=True)),
        tuple(layer.dilation),
        groups=layer.groups,
        transposed=True,
    )


def _of_pool(
    layer: nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d, input_size: Sequence[int]
) -> Convolution:
    """The kernel 1 / divisor on one channel, with the rounding of that quotient as ``error``."""
    dims = dimensions_of(layer)
    kernel, stride, padding = (
        (value,) * dims if isinstance(value, int) else tuple(value)
        for value in (layer.kernel_size, layer.stride, layer.padding)
    )
    if not layer.count_include_pad and any(padding):
        raise UnsupportedLayer(
            "count_include_pad is False with padding "
            f"{padding}: border averages have weights of their own, so this is no convolution; use "
            "count_include_pad=True or padding=0."
        )
    parts = zip(input_size, kernel, stride, padding, strict=True)
    if layer.ceil_mode and any((n + 2 * p - k) % s for n, k, s, p in parts):
        raise UnsupportedLayer(
            f"ceil_mode is True and input size {tuple(input_size)} leaves a remainder, so the last "
            "averages run over fewer inputs; use ceil_mode=False or a size that fits."
        )
    ones = torch.ones((1, 1, *kernel), dtype=torch.float64)
    divisor: int = getattr(layer, "divisor_override", None) or ones.numel()
    quotient = 1.0 / divisor
    missed = fraction_up(abs(Fraction(1, divisor) - Fraction(quotient)))
    return Convolution(
        ones * quotient,
        tuple(input_size),
        stride,
        tuple((p, p) for p in padding),
        (1,) * dims,
        error=ones * missed if missed else None,
    )
