"""A convolution and its adjoint on live tensors, for the power method; any device, differentiable.

The verified norms (:mod:`relaxcert.lipschitz.convolution`) do not use this.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relaxcert.lipschitz.convolution_map import ConvolutionLayer, Ints, pads_of
from relaxcert.lipschitz.power import ITERATIONS, safe_norm, unit_vector

_FORWARD: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_BACK: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
Weighted = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)


def is_transposed(layer: ConvolutionLayer) -> bool:
    """Whether the layer is the adjoint of a convolution."""
    return isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)


def apply_linear(layer: Weighted, values: Tensor) -> Tensor:
    """The layer without its bias; (batch, channels, ...)."""
    dims = values.dim() - 2
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return _BACK[dims](
            values,
            layer.weight,
            None,
            layer.stride,
            layer.padding,
            layer.output_padding,
            layer.groups,
            layer.dilation,
        )
    pads = pads_of(layer)
    flat = [side for pad in reversed(pads) for side in pad]
    mode = "circular" if layer.padding_mode == "circular" else "constant"
    padded = F.pad(values, flat, mode=mode) if any(flat) else values
    return _FORWARD[dims](padded, layer.weight, None, layer.stride, 0, layer.dilation, layer.groups)


def apply_adjoint(layer: Weighted, values: Tensor, input_size: Ints) -> Tensor:
    """The transposed map; ``input_size`` is the spatial size of the layer's input."""
    dims = values.dim() - 2
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        result = _FORWARD[dims](
            values, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups
        )
        for dim, size in enumerate(input_size):
            result = result.narrow(dim + 2, 0, size)
        return result
    pads = pads_of(layer)
    full = _BACK[dims](values, layer.weight, None, layer.stride, 0, 0, layer.groups, layer.dilation)
    # Positions on the right that no tap reads.
    missing = [
        size + sum(pad) - full.shape[dim + 2]
        for dim, (size, pad) in enumerate(zip(input_size, pads, strict=True))
    ]
    full = F.pad(full, [side for gap in reversed(missing) for side in (0, gap)])
    for dim, (size, (left, right)) in enumerate(zip(input_size, pads, strict=True)):
        core = full.narrow(dim + 2, left, size)
        if layer.padding_mode == "circular":
            core = core + _beside(full.narrow(dim + 2, 0, left), dim, size - left, 0)
            core = core + _beside(full.narrow(dim + 2, left + size, right), dim, 0, size - right)
        full = core
    return full


def _beside(part: Tensor, dim: int, before: int, after: int) -> Tensor:
    """Zeros around ``part`` in one spatial dimension."""
    pads = [0, 0] * (part.dim() - 2)
    place = 2 * (part.dim() - 3 - dim)
    pads[place], pads[place + 1] = before, after
    return F.pad(part, pads)


def spectral_estimate(
    layer: Weighted, iterate: Tensor, iterations: int = ITERATIONS
) -> tuple[Tensor, Tensor]:
    """(sigma, next iterate) after power iterations on the zero-padded operator itself.

    iterate: (1, channels, *size), the layer's input. Gradient as in
    :func:`relaxcert.lipschitz.power.spectral_norm_estimate`.
    """
    with torch.no_grad():
        vector = iterate
        size = tuple(iterate.shape[2:])
        for _ in range(iterations):
            image = apply_adjoint(layer, apply_linear(layer, vector), size)
            vector = torch.where(image.any(), unit_vector(image), vector)
    vector = vector.clone()
    return safe_norm(apply_linear(layer, vector)), vector


def sum_estimate(layer: Weighted, *, rows: bool) -> Tensor:
    """Largest absolute row sum (linf) or column sum (l1) of the layer's map, borders aside."""
    transposed = is_transposed(layer)
    weight = layer.weight.abs()
    groups = weight.unflatten(0, (layer.groups, -1))
    if rows != transposed:
        return groups.flatten(2).sum(2).amax()
    # An input meets the taps of one remainder modulo the stride only.
    summed = groups.sum(1)
    totals = [summed]
    for dim, (stride, dilation) in enumerate(zip(layer.stride, layer.dilation, strict=True)):
        period = stride // math.gcd(stride, dilation)
        totals = [
            part.index_select(
                dim + 2, torch.arange(first, part.shape[dim + 2], period, device=part.device)
            ).sum(dim + 2, keepdim=True)
            for part in totals
            for first in range(min(period, part.shape[dim + 2]))
        ]
    return torch.stack([part.amax() for part in totals]).amax()
