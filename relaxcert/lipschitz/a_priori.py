"""The rounding of a whole forward pass, bounded before it runs: one norm of the points decides.

The running bound (:mod:`relaxcert.lipschitz.forward`) measures every layer's values. But they are
known beforehand up to ||x||: with h(0) computed once, and total the verified constant of the map
from the input to a node, for every x with ||x|| <= n

    ||exact h(x)||              <=  S(n) = ||h(0)|| + total n
    ||computed h - exact h||    <=  E(n) = carried(n) + r(n)
    ||computed h||              <=  C(n) = S(n) + E(n)

    carried = sigma E_a (layer),   E_a + E_b (sum),   norm of (E_a, E_b, ...) (concatenation)
    r       = (gamma_k (input_gain C_a + output_gain (S + carried) + offset) + lost)
              / (1 - gamma_k output_gain)          as ||computed z|| <= S + carried + r

and for the logits of the last Linear layer slack <= gamma_(n+1) (max_j ||w_j|| C + max_j |b_j|).
All of them are at_zero + slope n with numbers that are proved once. No partial sum reaches half the
largest number of the format while n <= ``limit``, so nothing overflows there.

It is never below the running bound: sizes carry the surplus of :func:`norm_up` as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from relaxcert.lipschitz.arithmetic import conventional_products
from relaxcert.lipschitz.directed import (
    ETA,
    INFLATE,
    add_up,
    gamma,
    multiply_up,
    norm_surplus,
    norm_up,
    up,
)
from relaxcert.lipschitz.forward import after, first_state, ones_norm, unit_for
from relaxcert.lipschitz.graph import Node
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.lipschitz.propagation import NodeBound, joined_up
from relaxcert.lipschitz.verified import LastLayer, VerifiedBounds
from relaxcert.nn.layers import MinMax
from relaxcert.nn.shapes import GroupSort, InvertibleDownsampling, Permute, Reshape
from relaxcert.spec.ball import Norm

Shape = tuple[int, ...]


class Affine(NamedTuple):
    """An upper bound at_zero + slope n for n >= 0; both non-negative, sums and products go up."""

    at_zero: float
    slope: float

    def plus(self, *others: Affine) -> Affine:
        """The sum."""
        terms = (self, *others)
        return Affine(add_up(*(t.at_zero for t in terms)), add_up(*(t.slope for t in terms)))

    def times(self, factor: float) -> Affine:
        """The product with a non-negative number."""
        return Affine(multiply_up(self.at_zero, factor), multiply_up(self.slope, factor))

    def largest_argument(self, most: float) -> float:
        """The largest n (a little less) at which the bound does not exceed ``most``."""
        if not self.at_zero < most:
            return 0.0
        if self.slope == 0.0:
            return math.inf
        return (most - self.at_zero) / self.slope * (1.0 - 2.0**-40)


_ZERO = Affine(0.0, 0.0)
# In every norm, also of each of their parts.
_NORM_PRESERVING = (
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
    nn.Dropout,
    MinMax,
    GroupSort,
    Permute,
    Reshape,
    InvertibleDownsampling,
    nn.PixelUnshuffle,
    nn.PixelShuffle,
    nn.ChannelShuffle,
)


@dataclass(frozen=True, slots=True)
class RoundingBeforehand:
    """What is known of a pass before it runs, for one norm, shape of the points and dtype.

    Attributes:
        error: E of the features before the last layer, times the error scale of the bounds.
        certain: what the running bound of the same exceeds for sure; the two differ by no more.
        slack: of each logit by the last layer.
        logits: upper bound of the size of each computed logit.
        limit: the largest ||x|| for which all this holds.
    """

    error: Affine
    certain: Affine
    slack: Affine
    logits: Affine
    limit: float


@dataclass(frozen=True, slots=True)
class _Known:
    """Of one node: ||exact h||, its error, what the running error exceeds, and what ||h|| does."""

    size: Affine
    error: Affine
    certain: Affine
    least: Affine
    limit: float
    count: int  # of numbers

    @property
    def computed(self) -> Affine:
        """||computed h||."""
        return self.size.plus(self.error)


def rounding_beforehand(
    bounds: VerifiedBounds, shape: Shape, dtype: torch.dtype
) -> dict[Norm, RoundingBeforehand]:
    """Per norm, for points of ``shape`` (without the batch), and the network run in ``dtype``."""
    sizes, shapes = _at_zero(bounds, shape)
    return {
        norm: _in_norm(bounds, norm, [found[norm] for found in sizes], shapes, dtype)
        for norm in bounds.norms
    }


def _at_zero(bounds: VerifiedBounds, shape: Shape) -> tuple[list[dict[Norm, float]], list[Shape]]:
    """Upper bounds of ||h(0)|| at each node, per norm, and the shapes of the nodes."""
    graph = bounds.exact
    tensor = bounds.snapshot[0] if bounds.snapshot else torch.zeros(())
    zeros = torch.zeros(1, *shape, dtype=torch.float64, device=tensor.device)
    states = [first_state(zeros, bounds)]
    sizes: list[dict[Norm, float]] = [dict.fromkeys(bounds.norms, 0.0)]
    shapes = [shape]
    with torch.no_grad(), conventional_products(zeros.device):
        for index, node in enumerate(graph.body[1:], start=1):
            operands = [states[place] for place in node.operands]
            state = after(node, operands, bounds.at_node(index))
            states.append(state)
            shapes.append(tuple(state.value.shape[1:]))
            # At once, as an in-place layer may overwrite its operand.
            sizes.append(
                {
                    norm: _number(norm_up(state.value, ORDER[norm]) + state.error[norm])
                    for norm in bounds.norms
                }
            )
    return sizes, shapes


def _number(value: torch.Tensor) -> float:
    """One number a little larger; inf where nothing is known."""
    found = float(value)
    return math.inf if math.isnan(found) else up(found)


def _in_norm(
    bounds: VerifiedBounds, norm: Norm, sizes: list[float], shapes: list[Shape], dtype: torch.dtype
) -> RoundingBeforehand:
    body = bounds.norms[norm].body
    largest = torch.finfo(dtype).max / 2
    itself = Affine(0.0, 1.0)
    found = [_Known(itself, _ZERO, _ZERO, itself, largest, math.prod(shapes[0]))]
    for index, node in enumerate(bounds.exact.body[1:], start=1):
        operands = [found[place] for place in node.operands]
        size = Affine(sizes[index], body[index].total)
        made = _through(node, body[index], operands, size, shapes[index], norm, dtype)
        found.append(made)
    features = found[bounds.exact.features]
    limit = min(known.limit for known in found)
    count = math.prod(shapes[bounds.exact.features])
    if bounds.last is None:
        return RoundingBeforehand(features.error, features.certain, _ZERO, features.computed, limit)
    # ||v||_2 <= ||v||_1, and <= sqrt(count) ||v||_inf.
    euclidean = features.computed.times(up(math.sqrt(count)) if norm == "linf" else 1.0)
    slack, logits = _last(bounds.last, _as_measured(euclidean, count, 2.0, dtype), dtype)
    limit = min(limit, logits.largest_argument(largest))
    # In units of D, as in ``forward.scaled_error``.
    scale = bounds.norms[norm].error_scale
    error = features.error if scale == 1.0 else features.error.times(scale).times(INFLATE)
    certain = Affine(features.certain.at_zero * scale, features.certain.slope * scale)
    return RoundingBeforehand(error, certain, slack, logits, limit)


def _last(last: LastLayer, size: Affine, dtype: torch.dtype) -> tuple[Affine, Affine]:
    """Slack, and the size of all partial sums."""
    relative = gamma(last.operations, unit_for(dtype))
    rows, bias = float(last.row_norms.max()), float(last.bias.max())
    terms = size.times(rows).plus(Affine(bias, 0.0))
    lost = Affine(multiply_up(float(last.operations), ETA[dtype]), 0.0)
    slack = terms.times(relative).plus(lost).times(up(INFLATE * INFLATE))
    return slack, terms.times(1.0 + 2.0 * relative).plus(slack)


def _through(
    node: Node,
    known: NodeBound,
    operands: list[_Known],
    size: Affine,
    shape: Shape,
    norm: Norm,
    dtype: torch.dtype,
) -> _Known:
    carried = _carried(node, known, [operand.error for operand in operands], norm)
    certain = _certainly_carried(node, known, [operand.certain for operand in operands], norm)
    least = _least(node, operands[0].least, norm)
    rounding, order, count = known.rounding, ORDER[norm], math.prod(shape)
    if rounding.operations == 0:
        return _Known(size, carried.times(INFLATE), certain, least, math.inf, count)
    relative = gamma(rounding.operations, unit_for(dtype))
    own = up(relative * rounding.output_gain * norm_surplus(count, order, dtype)[0])
    if not own < 0.5:
        return _Known(size, Affine(math.inf, math.inf), _ZERO, least, 0.0, count)
    # A layer that acts on the last dimension adds its bias once for each place of the others.
    places = 1 if rounding.offset_is_total else math.prod(shape[:-1])
    lost = (rounding.operations * ETA[dtype] + rounding.absolute) * ones_norm(shape, order)
    offset = Affine(multiply_up(rounding.offset, float(places)), 0.0)
    operand = operands[0]
    entered = operand.computed if rounding.input_gain > 0.0 else _ZERO
    left = size.plus(carried) if rounding.output_gain > 0.0 else _ZERO
    terms = (
        _as_measured(entered, operand.count, order, dtype)
        .times(rounding.input_gain)
        .plus(_as_measured(left, count, order, dtype).times(rounding.output_gain), offset)
    )
    fresh = terms.times(relative).plus(Affine(up(lost), 0.0)).times(up(INFLATE / (1.0 - own)))
    error = carried.plus(fresh).times(up(INFLATE * INFLATE))
    peak = terms.times(1.0 + 2.0 * relative).plus(error).times(rounding.intermediate)
    limit = peak.largest_argument(torch.finfo(dtype).max / 2)
    # n may exceed ||x|| by what norm_up adds.
    seen = relative * rounding.input_gain / norm_surplus(operand.count, order, dtype)[0]
    certain = Affine(
        certain.at_zero + relative * offset.at_zero + seen * operand.least.at_zero,
        certain.slope + seen * operand.least.slope,
    )
    return _Known(size, error, certain, least, limit, count)


def _as_measured(size: Affine, count: int, order: float, dtype: torch.dtype) -> Affine:
    """What :func:`norm_up` may make of a vector of this size."""
    if size == _ZERO:
        return size
    factor, vanished = norm_surplus(count, order, dtype)
    return size.times(factor).plus(Affine(vanished, 0.0))


def _carried(node: Node, known: NodeBound, errors: list[Affine], norm: Norm) -> Affine:
    """What becomes of the operands' errors; of a concatenation the norm of both numbers apart.

    || (a_i + b_i n)_i || <= ||a|| + ||b|| n.
    """
    if node.kind == "layer":
        return errors[0].times(known.bound.value)
    if node.kind == "sum":
        return errors[0].plus(*errors[1:])
    return Affine(
        joined_up([error.at_zero for error in errors], norm),
        joined_up([error.slope for error in errors], norm),
    )


def _certainly_carried(node: Node, known: NodeBound, errors: list[Affine], norm: Norm) -> Affine:
    if node.kind == "layer" and math.isfinite(known.bound.value):
        return Affine(errors[0].at_zero * known.bound.value, errors[0].slope * known.bound.value)
    if node.kind == "sum" or norm == "l1":
        return Affine(sum(e.at_zero for e in errors), sum(e.slope for e in errors))
    return errors[0]


def _least(node: Node, operand: Affine, norm: Norm) -> Affine:
    """What ||h|| exceeds (at_zero may be negative); nothing is proved with it.

    It tells which points the running bound may yet decide. With s the smallest singular value,
    ||W h + b|| >= s ||h|| - ||b||.
    """
    layer = node.layer
    if isinstance(layer, _NORM_PRESERVING):
        return operand
    if (
        not isinstance(layer, nn.Linear)
        or norm != "l2"
        or layer.weight.shape[0] < len(layer.weight[0])
    ):
        return _ZERO
    weight = layer.weight.detach().to("cpu", torch.float64)
    gram = weight.mT @ weight
    if not bool(gram.isfinite().all()):
        return _ZERO
    smallest = math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[0])))
    bias: torch.Tensor | None = getattr(layer, "bias", None)
    offset = 0.0 if bias is None else float(torch.linalg.vector_norm(bias.detach()))
    return Affine(operand.at_zero * smallest - offset, operand.slope * smallest)
