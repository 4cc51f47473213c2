"""Logits and bottom of a pass in eval mode, proved: by bounds known beforehand, or by running ones.

The first way costs one norm of the points beside the plain network. Points that it cannot decide
(the running bound might gain what their margin lacks, or their norm is too large) are taken the
second way. It gives up points that would be certified with an eps larger by less than 1/32 only,
where a second pass would cost more than it finds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from relaxcert.heads.beforehand_links import Allowances, BeforehandLinks, allowances, pairs_in
from relaxcert.heads.bottom import bottom_above, proved_bottom, shown_logits
from relaxcert.heads.certify import check_logits, proved_links
from relaxcert.heads.head import CompositionHead, Head
from relaxcert.heads.prefix_head import PrefixHead
from relaxcert.lipschitz.a_priori import RoundingBeforehand, rounding_beforehand
from relaxcert.lipschitz.arithmetic import conventional_products
from relaxcert.lipschitz.directed import fraction_up, multiply_up
from relaxcert.lipschitz.forward import check_shape, forward_with_error
from relaxcert.lipschitz.graph import Graph
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.lipschitz.pairs import Pairs
from relaxcert.lipschitz.verified import VerifiedBounds
from relaxcert.spec.ball import Ball, Norm

_MOST_KEPT = 64  # shapes and balls of which allowances are remembered
_Ready = tuple[Allowances, Pairs]
_Found = tuple[Tensor, Tensor]  # what Allowances.at says of a batch


def running_output(
    inputs: Tensor, graph: Graph, bounds: VerifiedBounds, head: Head, current: Tensor | None = None
) -> Tensor:
    """Logits and bottom by the rounding as it runs; (batch, ...) -> (batch, classes + 1).

    ``current``: scalar bool, whether the bounds still hold, for compiled code.
    """
    forward = forward_with_error(inputs, graph, bounds)
    check_logits(forward.logits, len(inputs), bounds.num_classes)
    with torch.no_grad():
        outcome = head.margin(forward.logits, proved_links(forward, bounds))
        bottom = proved_bottom(forward.logits, outcome, current)
    return torch.cat((shown_logits(forward.logits), bottom[:, None]), dim=1)


def proved_output(
    inputs: Tensor, graph: Graph, bounds: VerifiedBounds, head: Head, balls: tuple[Ball, ...]
) -> Tensor:
    """Logits and bottom; the quick way first, the running bound where it cannot decide.

    Raises:
        InvalidInput: the backbone returns another shape than (batch, classes).
        StaleBounds: the bounds were proved for another shape of the input.
    """
    check_shape(inputs, bounds)
    ready = _ready(inputs, bounds, balls)
    if ready is None:
        return running_output(inputs, graph, bounds, head)
    with torch.no_grad():
        # Before the network runs, which may overwrite its input.
        found = {ball: numbers.at(inputs) for ball, (numbers, _) in ready.items()}
    if _too_loose(found, ready):
        return running_output(inputs, graph, bounds, head)
    kept = inputs.detach().clone() if _may_overwrite(graph) else inputs
    output, decided = _by_bounds_beforehand(inputs, graph, bounds, head, ready, found)
    if bool(decided.all()):
        return output
    rows = torch.nonzero(~decided).flatten()
    return output.index_copy(0, rows, running_output(kept[rows], graph, bounds, head))


def _by_bounds_beforehand(
    inputs: Tensor,
    graph: Graph,
    bounds: VerifiedBounds,
    head: Head,
    ready: dict[Ball, _Ready],
    found: dict[Ball, _Found],
) -> tuple[Tensor, Tensor]:
    """Logits and bottom, and (batch,) bool: where the running bound certifies no more than this."""
    with conventional_products(inputs.device):
        logits = graph.run(inputs)
    check_logits(logits, len(inputs), bounds.num_classes)
    with torch.no_grad():
        computed = logits.detach()

        def links_in(ball: Ball) -> BeforehandLinks:
            distance, error, paid, _ = found[ball][0]
            return BeforehandLinks(computed, ready[ball][1], distance, error, paid)

        outcome = head.margin(computed, links_in)
        lowest = torch.stack([values[3] for values, _ in found.values()]).amin(0)
        decided = _is_decided(outcome.margin, lowest)
        for _, holds in found.values():
            decided = decided & holds
        depth = _pointwise_depth(head)
        if depth > 0:
            gaps = _gaps(computed, depth, found, ready)
            decided = decided & _is_decided(gaps, lowest[:, None]).all(1)
        bottom = bottom_above(computed, outcome)
    return torch.cat((logits, bottom[:, None]), dim=1), decided


def _too_loose(found: dict[Ball, _Found], ready: dict[Ball, _Ready]) -> bool:
    """Whether so much is at stake that many points would be taken twice: a matter of speed."""
    return any(
        float(values[3].mean()) < -ready[ball][0].given_away for ball, (values, _) in found.items()
    )


def _is_decided(links: Tensor, lowest: Tensor) -> Tensor:
    """Where a lower bound is positive, or so low that no tighter allowance makes it so."""
    return (links > 0).logical_or_(links < lowest)


def _gaps(
    logits: Tensor,
    depth: int,
    found: dict[Ball, _Found],
    ready: dict[Ball, _Ready],
) -> Tensor:
    """Lower bounds of the gaps between neighbouring ranks at x itself; (batch, depth)."""
    highest = logits.topk(depth + 1, dim=1).values
    paid = [values[2] + values[1] * ready[b][0].largest for b, (values, _) in found.items()]
    return highest[:, :-1] - highest[:, 1:] - torch.stack(paid).amax(0)[:, None]


def _pointwise_depth(head: Head) -> int:
    """How many ranks the heads look at whose verdict hangs on the order at x itself."""
    if isinstance(head, CompositionHead):
        return max(_pointwise_depth(part) for part in head.parts if isinstance(part, Head))
    return head.depth if isinstance(head, PrefixHead) and head.pointwise else 0


def _ready(
    inputs: Tensor, bounds: VerifiedBounds, balls: tuple[Ball, ...]
) -> dict[Ball, _Ready] | None:
    """The allowances of each ball, made once; None where the running bound must serve."""
    if len(inputs) == 0:
        return None
    ready: dict[Ball, _Ready] = {}
    for ball in balls:
        key = (ball, tuple(inputs.shape[1:]), inputs.dtype)
        if key not in bounds.remembered:
            if len(bounds.remembered) >= _MOST_KEPT:
                bounds.remembered.clear()
            bounds.remembered[key] = _made(inputs, bounds, ball)
        found = bounds.remembered[key]
        if found is None:
            return None
        ready[ball] = found
    return ready


def _made(inputs: Tensor, bounds: VerifiedBounds, ball: Ball) -> _Ready | None:
    proved = bounds.norms[ball.norm]
    pairs = pairs_in(proved.distances, inputs.dtype)
    if pairs is None:
        return None
    known: dict[Norm, RoundingBeforehand] = rounding_beforehand(
        bounds, tuple(inputs.shape[1:]), inputs.dtype
    )
    reach = multiply_up(fraction_up(ball.eps), proved.product)
    largest = float(pairs.largest)
    return allowances(known[ball.norm], reach, largest, ORDER[ball.norm], inputs), pairs


def _may_overwrite(graph: Graph) -> bool:
    """Whether a layer may write into the points: in place, or anybody's code."""
    return any(_is_unknown_or_in_place(node.layer) for node in graph.layers)


def _is_unknown_or_in_place(layer: nn.Module | None) -> bool:
    if layer is None:
        return False
    known = type(layer).__module__.startswith(("torch.nn.", "relaxcert.nn."))
    return not known or bool(vars(layer).get("inplace", False))
