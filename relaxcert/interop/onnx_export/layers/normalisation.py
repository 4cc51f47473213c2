"""Batch normalisation with stored statistics.

    y = s (x - mean) + b,   s = w / sqrt(var + eps)

in float64, rounded once. s has four roundings (sum, root, quotient, product) and the formula three
more, so that each result is off by at most

    gamma_7 (|s| |x| + |s mean| + |b|),

less than the gamma_12 of the rule. That s lost nothing below the smallest normal number is checked:
such networks are refused. A file without a guarantee has the BatchNormalization operator, whose
epsilon is a float32 number and which engines fold into the convolution before it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.interop.onnx_export.registry import Site, emitter
from relaxcert.lipschitz.rules_normalisation import factors_of

_SMALLEST = 2.0**-900


@emitter(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def batch_norm(layer: Any, site: Site) -> str:
    """Sub, Mul, Add with the stored statistics (eval mode)."""
    factors = factors_of(layer)
    if not site.guarded:
        return _plain(layer, site)
    weight: Tensor | None = layer.weight
    lost = (factors.abs() < _SMALLEST) & (True if weight is None else weight.detach().cpu() != 0.0)
    if bool(lost.any()):
        raise UnsupportedLayer(
            f"{layer!r} scales a channel by less than {_SMALLEST}, which cannot be written with a "
            "known rounding: set such weights to 0."
        )
    write, shape = site.write, (-1, *[1] * (len(site.before) - 1))

    def constant(value: Tensor) -> str:
        return write.constant(value.detach().view(shape), site.working)

    shifted = write.op("Sub", site.wide(), constant(layer.running_mean))
    result = write.op("Mul", shifted, constant(factors))
    if layer.bias is not None:
        result = write.op("Add", result, constant(layer.bias))
    return site.narrow(result)


def _plain(layer: Any, site: Site) -> str:
    mean: Tensor = layer.running_mean
    weight = torch.ones_like(mean) if layer.weight is None else layer.weight
    bias = torch.zeros_like(mean) if layer.bias is None else layer.bias
    constants = (
        site.write.constant(t, site.dtype) for t in (weight, bias, mean, layer.running_var)
    )
    return site.write.op("BatchNormalization", site.name, *constants, epsilon=layer.eps)
