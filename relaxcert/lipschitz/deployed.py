"""Level D: what a deployment in float32 or float64 computes at every representable x' of a ball.

The centre is computed in float64 with error e64, as at level R. Besides, for each ball of radius
eps and each node with constant P from the input, with fmt the deployed format,

    ||exact h(x')|| <= M = ||h(x)|| + e64 + P eps
    e_D = sigma e_D(operand) + r
    r   = gamma^fmt_n (input_gain (M + e_D)(operand) + output_gain ||computed z|| + offset) + lost

bounds ||computed h(x') - exact h(x')|| for any order of summation, with or without fused
multiply-add. The computed logits of j and i keep their order if their exact difference exceeds

    slack_j + slack_i + D_ji e_D
    slack_j = gamma^fmt_(n+1) (||w_j|| ||computed h|| + |b_j|) + (n+1) eta

Every intermediate result must stay below half the largest number of fmt; else nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedPrecision
from relaxcert.lipschitz.arithmetic import conventional_products
from relaxcert.lipschitz.directed import ETA, INFLATE, UNIT, fraction_up, gamma, norm_up
from relaxcert.lipschitz.forward import (
    Forward,
    NodeState,
    after,
    check_shape,
    first_state,
    logits_of,
    ones_norm,
    scaled_error,
)
from relaxcert.lipschitz.graph import Node
from relaxcert.lipschitz.materialised import materialised
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.lipschitz.verified import LastLayer, NodeBound, VerifiedBounds
from relaxcert.spec.ball import Ball

FORMATS = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, slots=True)
class _AtBall:
    """Of one node, for all x' of one ball: ||exact h|| <= size, ||computed - exact|| <= error."""

    size: Tensor
    error: Tensor


def deployed_format(name: str, backbone: nn.Module) -> torch.dtype:
    """The dtype of a deployment, if there is a guarantee for it.

    Raises:
        UnsupportedPrecision: another format, or weights that it cannot hold exactly.
    """
    if name not in FORMATS:
        half = " (it keeps 8 or 11 bits, so that the rounding of a sum of a few hundred products "
        half += "exceeds any margin, and sums are often kept in other formats)"
        raise UnsupportedPrecision(
            f"deployed={name!r}{half if name in ('float16', 'bfloat16') else ''}: certificates of "
            "level D are given for 'float32' and 'float64'; cast the network before deployment."
        )
    dtype = FORMATS[name]
    plain = materialised(backbone)
    for path, tensor in (*plain.named_parameters(), *plain.named_buffers()):
        if tensor.is_floating_point() and not bool((tensor.to(dtype).to(tensor) == tensor).all()):
            raise UnsupportedPrecision(
                f"deployed={name!r}, but {path} ({tensor.dtype}) holds numbers that {name} lacks, "
                f"so the deployed network would be another one: certify backbone.to({dtype})."
            )
    return dtype


def deployed_forward(
    inputs: Tensor, bounds: VerifiedBounds, balls: Iterable[Ball], dtype: torch.dtype
) -> dict[Ball, Forward]:
    """Per ball the float64 logits at x, with slack and error that cover the deployment as well.

    inputs: (batch, ...), float64. In an exact real sense: if f_j - f_i, as computed here, exceeds
    slack_j + slack_i + (error + eps P) D_ji, the deployed network computes f_j > f_i on the ball.
    """
    check_shape(inputs, bounds)
    chosen = tuple(dict.fromkeys(balls))
    with torch.no_grad(), conventional_products(inputs.device):
        states = [first_state(inputs, bounds)]
        reached = [{ball: _input_at(ball, inputs) for ball in chosen}]
        for index, node in enumerate(bounds.exact.body):
            if index == 0:
                continue
            operands = [states[place] for place in node.operands]
            proved = bounds.at_node(index)
            state = after(node, operands, proved)
            states.append(state)
            reached.append(
                {
                    ball: _at_ball(
                        node,
                        proved[ball.norm],
                        [reached[place][ball] for place in node.operands],
                        state,
                        ball,
                        dtype,
                    )
                    for ball in chosen
                }
            )
        features = states[bounds.exact.features]
        centre = logits_of(features, bounds.exact, bounds)
        last = reached[bounds.exact.features]
        return {
            ball: _with_deployment(centre, features, last[ball], ball, bounds, dtype)
            for ball in chosen
        }


def _input_at(ball: Ball, inputs: Tensor) -> _AtBall:
    size = norm_up(inputs, ORDER[ball.norm]) + fraction_up(ball.eps)
    return _AtBall(size * INFLATE, torch.zeros_like(size))


def _at_ball(
    node: Node,
    known: NodeBound,
    operands: list[_AtBall],
    state: NodeState,
    ball: Ball,
    dtype: torch.dtype,
) -> _AtBall:
    order, rounding = ORDER[ball.norm], known.rounding
    moved = known.total * fraction_up(ball.eps)
    size = (norm_up(state.value, order) + state.error[ball.norm] + moved) * INFLATE
    errors = torch.stack([operand.error for operand in operands])
    if node.kind == "layer":
        carried = errors[0] * known.bound.value
    elif node.kind == "sum" or ball.norm == "l1":
        carried = errors.sum(0)
    else:
        carried = errors.amax(0) if ball.norm == "linf" else norm_up(errors.T, 2.0)
    if rounding.operations == 0:
        return _AtBall(size, carried * INFLATE)
    g = gamma(rounding.operations, UNIT[dtype])
    if g * rounding.output_gain >= 0.5:
        return _AtBall(size, torch.full_like(size, math.inf))
    places = 1 if rounding.offset_is_total else math.prod(state.value.shape[1:-1])
    terms = (
        rounding.input_gain * (operands[0].size + operands[0].error)
        + rounding.output_gain * (size + carried)
        + rounding.offset * places
    )
    lost = (rounding.operations * ETA[dtype] + rounding.absolute) * ones_norm(
        tuple(state.value.shape[1:]), order
    )
    # r stands on both sides: ||computed z|| <= M + sigma e_D + r.
    fresh = (g * terms + lost) / (1.0 - g * rounding.output_gain) * INFLATE
    # Partial sums are at most the sum of all absolute terms.
    peak = (terms * (1.0 + 2.0 * g) + fresh) * rounding.intermediate * INFLATE
    fresh = torch.where(peak < torch.finfo(dtype).max / 2, fresh, torch.full_like(fresh, math.nan))
    return _AtBall(size, (carried + fresh) * INFLATE)


def _with_deployment(
    centre: Forward,
    features: NodeState,
    reached: _AtBall,
    ball: Ball,
    bounds: VerifiedBounds,
    dtype: torch.dtype,
) -> Forward:
    error = centre.error[ball.norm] + scaled_error(reached.error, bounds.norms[ball.norm])
    slack = centre.slack
    if bounds.last is not None:
        slack = slack + _slack(features.value, reached, ball, bounds.last, bounds, dtype)
    return Forward(centre.logits, slack * INFLATE, {ball.norm: error * INFLATE})


def _slack(
    features: Tensor,
    reached: _AtBall,
    ball: Ball,
    last: LastLayer,
    bounds: VerifiedBounds,
    dtype: torch.dtype,
) -> Tensor:
    """gamma^fmt_(n+1) (||w_j|| ||computed h||_2 + |b_j|) + (n+1) eta; (batch, classes)."""
    # ||v||_2 <= ||v||_1, and <= sqrt(count) ||v||_inf.
    count = math.prod(features.shape[1:])
    size = reached.size + reached.error
    if ball.norm == "linf":
        size = size * (math.sqrt(count) * INFLATE)
    terms = (size[:, None] * last.row_norms + last.bias) * INFLATE
    g = gamma(last.operations, UNIT[dtype])
    slack = (g * terms + last.operations * ETA[dtype]) * INFLATE
    fits = terms * (1.0 + 2.0 * g) < torch.finfo(dtype).max / 2
    return torch.where(fits, slack, torch.full_like(slack, math.nan))
