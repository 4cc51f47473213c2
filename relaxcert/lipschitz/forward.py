"""The forward pass with a bound on its own rounding (level R, the centre).

For each node with verified constant sigma and fresh rounding r (see ``Rounding``):

    layer            e = sigma e_a + r        ||computed h - exact h|| <= e
    sum              e = e_a + e_b + r
    concatenation    e = norm of (e_a, e_b, ...)

and for the logits of the last Linear layer, per class j (Cauchy-Schwarz on |w_j| . |h|):

    slack_j = gamma_(n+1) (||w_j|| ||h|| + |b_j|) + (n+1) eta

so that f_j - f_i is known up to slack_j + slack_i + D_ji e.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxcert.errors import StaleBounds
from relaxcert.lipschitz.arithmetic import conventional_products
from relaxcert.lipschitz.directed import (
    ETA,
    INFLATE,
    gamma,
    in_float32,
    norm_up,
    tensor_up,
    unit_of,
)
from relaxcert.lipschitz.graph import Graph, Node
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.lipschitz.registry import Rounding
from relaxcert.lipschitz.verified import LastLayer, NodeBound, NormBounds, VerifiedBounds
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
        error: per norm, (batch,), bound of ||computed h - exact h|| before the last layer, times
            the error scale of the bounds: error * D_ji is how far it may move f_j - f_i.
    """

    logits: Tensor
    slack: Tensor
    error: dict[Norm, Tensor]


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node's value, its error in each norm, and NaN for points about which nothing is known."""

    value: Tensor
    unknown: Tensor
    error: dict[Norm, Tensor]


def forward_with_error(inputs: Tensor, graph: Graph, bounds: VerifiedBounds) -> Forward:
    """Run ``graph`` (the exact float64 copy, or the live network) on inputs of its own dtype.

    Raises:
        StaleBounds: the bounds were proved for another shape of the input.
    """
    check_shape(inputs, bounds)
    if torch.compiler.is_compiling():
        return _forward(inputs, graph, bounds)
    with conventional_products(inputs.device):
        return _forward(inputs, graph, bounds)


def check_shape(inputs: Tensor, bounds: VerifiedBounds) -> None:
    """Raise StaleBounds unless the bounds hold for points of this shape."""
    if not bounds.covers(tuple(inputs.shape[1:])):
        raise StaleBounds(
            f"inputs have shape {tuple(inputs.shape[1:])}, but the bounds were proved for "
            f"{bounds.input_shape}, and those of other sizes may be larger: verify again."
        )


def _forward(inputs: Tensor, graph: Graph, bounds: VerifiedBounds) -> Forward:
    # Values that nothing needs any more are let go, so that their memory serves again.
    states = {0: first_state(inputs, bounds)}
    last_use = graph.last_use
    for index, node in enumerate(graph.body):
        if index > 0:
            parts = [states[place] for place in node.operands]
            for place in node.operands:
                if last_use[place] == index:
                    states.pop(place, None)
            states[index] = after(node, parts, bounds.at_node(index))
    return logits_of(states[graph.features], graph, bounds)


def first_state(inputs: Tensor, bounds: VerifiedBounds) -> NodeState:
    """The state of the input node."""
    # Infinity may vanish again (ReLU makes 0 of minus infinity), also that of an overflow: from
    # there on nothing is known.
    unknown = _nan_where_not_finite(inputs)
    return NodeState(inputs, unknown, dict.fromkeys(bounds.norms, unknown))


def logits_of(features: NodeState, graph: Graph, bounds: VerifiedBounds) -> Forward:
    """Apply the last Linear layer, if there is one."""
    if graph.last is None or bounds.last is None:
        slack = torch.zeros_like(features.value, dtype=torch.float64)
        return Forward(features.value, slack, features.error)
    logits = graph.last.run([features.value])
    with torch.no_grad():
        error: dict[Norm, Tensor] = {
            norm: scaled_error(found, bounds.norms[norm]) for norm, found in features.error.items()
        }
        return Forward(logits, _slack(features.value, bounds.last), error)


def scaled_error(error: Tensor, proved: NormBounds) -> Tensor:
    """The error of h in units of the D of ``proved``, so that error * D_ji covers f_j - f_i."""
    return error if proved.error_scale == 1.0 else error * proved.error_scale * INFLATE


def after(node: Node, operands: list[NodeState], proved: dict[Norm, NodeBound]) -> NodeState:
    """Run one node and carry the errors through it."""
    values = [operand.value for operand in operands]
    if node.kind == "layer" and all(known.passes for known in proved.values()):
        return NodeState(node.run(values), operands[0].unknown, operands[0].error)
    with torch.no_grad():
        # Before the node runs, which may overwrite its operand.
        sizes = {
            norm: norm_up(values[0], ORDER[norm]) if known.rounding.input_gain > 0.0 else 0.0
            for norm, known in proved.items()
        }
    output = node.run(values)
    with torch.no_grad():
        unknown = operands[0].unknown
        for operand in operands[1:]:
            unknown = unknown + operand.unknown
        # Layers that round nothing copy or compare, so nothing overflows in them.
        if any(known.rounding.operations for known in proved.values()):
            unknown = unknown + _nan_where_not_finite(output)
        error: dict[Norm, Tensor] = {
            norm: _carried(node, known, [operand.error[norm] for operand in operands], norm)
            for norm, known in proved.items()
        }
        for norm, known in proved.items():
            fresh = _fresh(known.rounding, sizes[norm], output, norm) + unknown
            error[norm] = (error[norm] + fresh) * INFLATE
    return NodeState(output, unknown, error)


def _carried(node: Node, known: NodeBound, errors: list[Tensor], norm: Norm) -> Tensor:
    """What becomes of the operands' errors: a little low, for the caller to inflate."""
    if node.kind == "layer":
        # A bound of inf times an error of 0 is NaN, and NaN is never certified.
        return errors[0] * known.bound.value
    stacked = torch.stack(errors)
    if node.kind == "sum" or norm == "l1":
        return stacked.sum(0)
    if norm == "linf":
        return stacked.amax(0)
    return norm_up(stacked.T, 2.0)


def _nan_where_not_finite(values: Tensor) -> Tensor:
    """(batch,): 0 for points whose values are all finite, else NaN, in one pass."""
    flat = values.detach().flatten(1)
    if in_float32(flat):
        zero = flat.sum(1) * 0.0
        if not bool(zero.any()):  # NaN counts as true; a sum of finite values may have overflowed
            return zero.double()
    return flat.sum(1, dtype=torch.float64) * 0.0


def _fresh(rounding: Rounding, size: Tensor | float, output: Tensor, norm: Norm) -> Tensor | float:
    """gamma_n (input_gain ||h|| + output_gain ||z|| + offset) + what is lost; size: ||h||."""
    if rounding.operations == 0:
        return 0.0
    order = ORDER[norm]
    # A layer that acts on the last dimension adds its bias once for each place of the others.
    places = 1 if rounding.offset_is_total else math.prod(output.shape[1:-1])
    relative = gamma(rounding.operations, unit_for(output.dtype))
    lost = rounding.operations * ETA[output.dtype] + rounding.absolute
    # Numbers first: operations on small tensors are what this costs.
    total: Tensor | float = relative * (rounding.offset * places) + lost * ones_norm(
        tuple(output.shape[1:]), order
    )
    if rounding.input_gain > 0.0:
        total = size * (relative * rounding.input_gain) + total
    if rounding.output_gain > 0.0:
        total = norm_up(output, order) * (relative * rounding.output_gain) + total
    return total


def _slack(hidden: Tensor, last: LastLayer) -> Tensor:
    size = norm_up(hidden, 2.0)[:, None] * last.row_norms + last.bias
    relative = gamma(last.operations, unit_for(hidden.dtype)) * size
    return tensor_up((relative + last.operations * ETA[hidden.dtype]) * INFLATE)


def unit_for(dtype: torch.dtype) -> float:
    """The unit roundoff of a pass in ``dtype``, that of float32 a little widened."""
    unit = unit_of(dtype)
    return unit if dtype == torch.float64 else unit * _WIDENED


def ones_norm(shape: tuple[int, ...], order: float) -> float:
    """||ones|| of this shape."""
    count = math.prod(shape)
    return {2.0: count**0.5, 1.0: float(count)}.get(order, 1.0) * INFLATE
