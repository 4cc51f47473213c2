"""Points that are only just certified: where a bound that is a little too small shows first."""

from __future__ import annotations

import torch
from torch import Tensor

from relaxcert.heads.gloronet import GloRoNet

_HALVINGS = 30


def just_certified(net: GloRoNet, points: Tensor, *, count: int, seed: int = 0) -> Tensor:
    """Up to ``count`` certified points at the end of their certified region; (n, ...), float64.

    From a certified point towards one that is not, or is predicted otherwise, the line is halved
    until the last certified point is known to one part in 2^30. At most ``count`` lines are tried.
    """
    exact = points.double()
    certificates = net.certify(exact)
    inside = certificates.certified.nonzero().flatten()
    if len(inside) == 0:
        return exact[:0]
    generator = torch.Generator().manual_seed(seed)
    start = inside[torch.randint(len(inside), (count,), generator=generator)]
    end = torch.randint(len(exact), (count,), generator=generator)
    predicted = certificates.prediction[start]
    leaves = ~certificates.certified[end] | (certificates.prediction[end] != predicted)
    start, end, predicted = start[leaves], end[leaves], predicted[leaves]
    low, high = torch.zeros(len(start)).double(), torch.ones(len(start)).double()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = net.certify(_between(exact, start, end, middle))
        stays = found.certified & (found.prediction == predicted)
        low, high = torch.where(stays, middle, low), torch.where(stays, high, middle)
    return _between(exact, start, end, low)


def _between(points: Tensor, start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    weight = share.view(-1, *[1] * (points.dim() - 1))
    return points[start] + weight * (points[end] - points[start])
