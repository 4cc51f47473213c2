"""Rule of batch normalisation, in eval mode only."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidWeights, UnsupportedLayer
from relaxcert.lipschitz.directed import up
from relaxcert.lipschitz.matrix import ORDER, checked_matrix, vector_norm_up
from relaxcert.lipschitz.registry import Bound, Rounding, rule
from relaxcert.lipschitz.rules_convolution import ShapedRule, repeated_norm_up
from relaxcert.spec.ball import Norm

# Annotations of torch deny that weight and bias may be None.
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
# Four operations make w / sqrt(v + eps) in float64; twice that.
_RELATIVE = 2.0**-50


@rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
class BatchNormRule(ShapedRule):
    """w (x - mean) / sqrt(var + eps) + b with stored mean and variance: a diagonal map.

    In train mode the statistics are those of the batch, so that points depend on each other: such a
    network is not certified.
    """

    only_in_eval_mode = True

    def verified(self, layer: BatchNorm, norm: Norm) -> Bound:
        """max |w| / sqrt(var + eps), in every norm."""
        factors = factors_of(layer)
        return Bound(up(float(factors.abs().max()) * (1.0 + _RELATIVE)), "largest scale")

    def estimate(self, layer: BatchNorm, norm: Norm, iterate: Tensor | None) -> tuple[Tensor, None]:
        """The same, differentiable in w."""
        variance = layer.running_var
        if variance is None:
            raise _without_statistics(layer)
        scale = (variance + layer.eps).rsqrt()
        weight: Tensor | None = getattr(layer, "weight", None)
        return (scale if weight is None else scale * weight).abs().amax(), None

    def rounding(self, layer: BatchNorm, norm: Norm) -> Rounding:
        """scale x + (b - mean scale), the scale with six roundings: gamma_12 of all terms."""
        factors = factors_of(layer)
        shift = checked_matrix(layer.running_mean, "running_mean of BatchNorm") * factors  # pyright: ignore[reportArgumentType]
        parts = [shift]
        bias: Tensor | None = getattr(layer, "bias", None)
        if bias is not None:
            parts.append(checked_matrix(bias, "bias of BatchNorm"))
        one = vector_norm_up(torch.stack([part.abs() for part in parts]).sum(0), ORDER[norm])
        shape = self.shape or (1,)
        offset = repeated_norm_up(one * (1.0 + _RELATIVE), math.prod(shape[1:]), norm)
        gain = up(float(factors.abs().max()) * (1.0 + _RELATIVE))
        return Rounding(12, gain, offset=offset, offset_is_total=True)


def factors_of(layer: BatchNorm) -> Tensor:
    """w / sqrt(var + eps) per channel, float64, each within a relative 2^-50."""
    if layer.running_var is None or layer.running_mean is None:
        raise _without_statistics(layer)
    variance = checked_matrix(layer.running_var, "running_var of BatchNorm")
    checked_matrix(layer.running_mean, "running_mean of BatchNorm")
    if bool((variance < 0).any()) or bool((variance + layer.eps < 2.0**-100).any()):
        raise InvalidWeights(
            f"running_var of BatchNorm with eps={layer.eps} has a smallest entry of "
            f"{float(variance.min())}: variances must not be negative, nor vanish with eps."
        )
    scale = 1.0 / (variance + layer.eps).sqrt()
    weight: Tensor | None = getattr(layer, "weight", None)
    return scale if weight is None else scale * checked_matrix(weight, "weight of BatchNorm")


def _without_statistics(layer: BatchNorm) -> UnsupportedLayer:
    return UnsupportedLayer(
        f"{layer!r} keeps no running statistics, so its output depends on the other points of the "
        "batch: use track_running_stats=True."
    )
