"""The forward pass with a bound on its own rounding (level R, the centre).

For each layer with verified constant sigma and fresh rounding r (see ``Rounding``):

    e_l = sigma_l e_(l-1) + r_l        ||computed h_l - exact h_l|| <= e_l

and for the logits of the last Linear layer, per class j (Cauchy-Schwarz on |w_j| . |h|):

    slack_j = gamma_(n+1) (||w_j|| ||h|| + |b_j|) + (n+1) eta

so that f_j - f_i is known up to slack_j + slack_i + D_ji e.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxcert.lipschitz.chain import Chain
from relaxcert.lipschitz.directed import ETA, INFLATE, gamma, norm_up, tensor_up, unit_of
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.lipschitz.registry import Rounding
from relaxcert.lipschitz.verified import LastLayer, VerifiedBounds
from relaxcert.spec.ball import Norm

# Above float32's and float64's unit together: a float32 margin that is positive then implies that
# the float64 margin of the same point is positive as well.
_WIDENED = 1.0 + 2.0**-20


@dataclass(frozen=True, slots=True)
class Forward:
    """Computed logits and how far they may be from the exact ones.

    Attributes:
        logits: (batch, classes), as computed, in the dtype of the network that ran.
        slack: (batch, classes), rounding of each logit by the last layer.
        error: per norm, (batch,), bound of ||computed h - exact h|| before the last layer.
    """

    logits: Tensor
    slack: Tensor
    error: dict[Norm, Tensor]


def forward_with_error(inputs: Tensor, chain: Chain, bounds: VerifiedBounds) -> Forward:
    """Run ``chain`` (the exact float64 copy, or the live network) on inputs of its own dtype."""
    hidden = inputs
    # Infinity may vanish again (ReLU makes 0 of minus infinity), also that of an overflow: from
    # there on nothing is known.
    unknown = _nan_where_not_finite(inputs)
    error: dict[Norm, Tensor] = {norm: unknown.clone() for norm in bounds.norms}
    for index, link in enumerate(chain.body):
        output: Tensor = link.layer(hidden)
        with torch.no_grad():
            # Layers that round nothing copy or compare, so nothing overflows in them.
            if any(proved.body[index][1].operations for proved in bounds.norms.values()):
                unknown = unknown + _nan_where_not_finite(output)
            for norm, proved in bounds.norms.items():
                bound, rounding = proved.body[index]
                fresh = _fresh(rounding, hidden, output, norm) + unknown
                # A bound of inf times an error of 0 is NaN, and NaN is never certified.
                error[norm] = (error[norm] * bound.value + fresh) * INFLATE
        hidden = output
    if chain.last is None or bounds.last is None:
        return Forward(hidden, torch.zeros_like(hidden, dtype=torch.float64), error)
    logits: Tensor = chain.last.layer(hidden)
    with torch.no_grad():
        return Forward(logits, _slack(hidden, bounds.last), error)


def _nan_where_not_finite(values: Tensor) -> Tensor:
    """(batch,): 0 for points whose values are all finite, else NaN, in one pass."""
    return values.detach().flatten(1).sum(1, dtype=torch.float64) * 0.0


def _fresh(rounding: Rounding, hidden: Tensor, output: Tensor, norm: Norm) -> Tensor | float:
    if rounding.operations == 0:
        return 0.0
    order = ORDER[norm]
    # A layer that acts on the last dimension adds its bias once for each place of the others.
    total: Tensor | float = rounding.offset * math.prod(output.shape[1:-1])
    if rounding.input_gain > 0.0:
        total = total + rounding.input_gain * norm_up(hidden, order)
    if rounding.output_gain > 0.0:
        total = total + rounding.output_gain * norm_up(output, order)
    return gamma(rounding.operations, _unit(output)) * total + _underflow(
        rounding.operations, output, order
    )


def _slack(hidden: Tensor, last: LastLayer) -> Tensor:
    size = norm_up(hidden, 2.0)[:, None] * last.row_norms + last.bias
    relative = gamma(last.operations, _unit(hidden)) * size
    return tensor_up((relative + last.operations * ETA[hidden.dtype]) * INFLATE)


def _unit(computed: Tensor) -> float:
    unit = unit_of(computed.dtype)
    return unit if computed.dtype == torch.float64 else unit * _WIDENED


def _underflow(operations: int, output: Tensor, order: float) -> float:
    """n eta ||ones||, from the shape alone."""
    count = math.prod(output.shape[1:])
    ones = {2.0: count**0.5, 1.0: float(count)}.get(order, 1.0)
    return operations * ETA[output.dtype] * ones * INFLATE
