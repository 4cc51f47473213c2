"""Constants of logit differences through the linear layers before the last one.

Where the last Linear layer W reads a linear map M of an earlier value (the anchor, whose constant
is T), logit differences move by at most

    K_ji = T ||(w_j - w_i) M||_*  <=  P ||w_j - w_i||_*

The head subtracts (e + eps P) D_ji, with e the rounding at the input of W. So D_ji = K_ji / P, and
e is multiplied by the largest ||w_j - w_i||_* / D_ji, which is kept below 64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relaxcert.errors import InvalidWeights
from relaxcert.lipschitz.directed import tensor_up, up
from relaxcert.lipschitz.folding import Folding
from relaxcert.lipschitz.linear_maps import Dense, Factors, LinearMap, as_dense, product
from relaxcert.lipschitz.matrix import DUAL_ORDER, checked_matrix, pair_distances, vector_norm_up
from relaxcert.lipschitz.propagation import NodeBound
from relaxcert.spec.ball import Norm

_MOST_GROWTH = 64.0  # of the rounding error, which is a million times smaller than any margin
_MOST_WORK = 2**28  # products: a second


def folded_distances(
    folding: Folding, norm: Norm, body: tuple[NodeBound, ...], distances: Tensor
) -> tuple[Tensor, float]:
    """D with all linear layers before the last one, and the factor of the rounding error.

    Args:
        folding: of a graph that ends in a Linear layer.
        norm: of the input space.
        body: the totals of all nodes.
        distances: ||w_j - w_i||_*, (classes, classes), verified.
    """
    graph = folding.graph
    totals = [known.total for known in body]
    reach, weight = totals[graph.features], checked_matrix(graph.last_weight, "last weight")
    if not 0.0 < reach < torch.inf:
        return distances, 1.0
    smallest = distances
    for anchor, found in folding.maps[graph.features].items():
        rows = _rows(folding, weight, anchor, found)
        if rows is not None:
            speeds = tensor_up(row_distances(rows, norm) * totals[anchor])
            smallest = torch.minimum(smallest, tensor_up(speeds / reach))
    if smallest is distances:
        return distances, 1.0
    smallest = torch.maximum(smallest, distances / _MOST_GROWTH)
    grown = torch.where(distances > 0.0, distances / smallest, 1.0)
    return smallest, max(1.0, up(float(grown.max()) * (1.0 + 2.0**-50)))


def _rows(folding: Folding, weight: Tensor, anchor: int, found: LinearMap) -> Dense | None:
    """W M; None where M is nothing, or too large to be written out."""
    shapes = [folding.graph.nodes[place].shape for place in (anchor, folding.graph.features)]
    if shapes[0] is None or shapes[1] is None or len(shapes[1]) != 1:
        return None
    if isinstance(found, Factors) and found.identity is not None:
        return None
    before = as_dense(found, shapes[0], shapes[1])
    if before is None or len(weight) ** 2 * before.matrix.shape[1] > _MOST_WORK:
        return None
    try:
        rows = product(Dense(weight), before, (shapes[0], shapes[1], (len(weight),)))
    except InvalidWeights:  # overflow
        return None
    return rows if isinstance(rows, Dense) else None


def row_distances(rows: Dense, norm: Norm) -> Tensor:
    """Upper bounds of ||b_j - b_i||_* for the exact rows b, within ``error`` of those stored."""
    stored = pair_distances(rows.matrix, norm)
    if rows.error is None:
        return stored
    missed = torch.tensor(
        [vector_norm_up(row, DUAL_ORDER[norm]) for row in rows.error], dtype=torch.float64
    )
    both = tensor_up(stored + tensor_up(missed[:, None] + missed))
    return both.masked_fill(torch.eye(len(both), dtype=torch.bool), 0.0)
