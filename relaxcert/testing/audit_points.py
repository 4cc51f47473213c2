"""Points that are only just certified: where a bound that is a little too small shows first."""

from __future__ import annotations

import torch
from torch import Tensor

from relaxcert.heads.gloronet import GloRoNet

_STEPS = 128  # shares of 1/128 are exact; regions without a certificate are thin
_BATCH = 4096
_HALVINGS = 30


def just_certified(net: GloRoNet, points: Tensor, *, count: int, seed: int = 0) -> Tensor:
    """Up to ``count`` certified points at the end of their certified region; (n, ...), float64.

    On the line from a certified point to any other, and if need be sixteen times as far, the first
    of 128 steps that is not certified is looked for, and then halved until the last certified point
    is known to one part in 2^30. At most ``count`` lines are tried; those that are certified at
    every step are left out.
    """
    exact = points.double()
    inside = net.certify(exact).certified.nonzero().flatten()
    if len(inside) == 0:
        return exact[:0]
    generator = torch.Generator().manual_seed(seed)
    start = exact[inside[torch.randint(len(inside), (count,), generator=generator)]]
    way = exact[torch.randint(len(exact), (count,), generator=generator)] - start
    found: list[Tensor] = []
    for scale in (1.0, 16.0):
        last, left = _last_certified(net, start, scale * way)
        found.append(last)
        start, way = start[left], way[left]
    return torch.cat(found)


def _last_certified(net: GloRoNet, start: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
    """The last certified points on start + t way, 0 <= t <= 1; and which lines never end; (n,)."""
    count = len(start)
    shares = torch.arange(1, _STEPS + 1, dtype=torch.float64) / _STEPS
    steps = _along(
        start.repeat_interleave(_STEPS, 0), way.repeat_interleave(_STEPS, 0), shares.repeat(count)
    )
    leaves = ~net.certify(steps, batch_size=_BATCH).certified.view(count, _STEPS)
    ends = leaves.any(1)
    start, way, first = start[ends], way[ends], leaves[ends].long().argmax(1)
    high = shares[first]
    low = high - 1 / _STEPS
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        stays = net.certify(_along(start, way, middle)).certified
        low, high = torch.where(stays, middle, low), torch.where(stays, high, middle)
    return _along(start, way, low), ~ends


def _along(start: Tensor, way: Tensor, share: Tensor) -> Tensor:
    return start + share.view(-1, *[1] * (start.dim() - 1)) * way
