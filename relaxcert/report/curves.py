"""Shares against eps from the radii of one certification, with no network at hand."""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = 160
_LEAST = 1e-300  # an axis whose steps do not underflow
_HIGHEST = 0.995  # of the finite radii, where an axis ends


def shares_at(radius: Tensor, eps: Tensor) -> Tensor:
    """The share of points whose radius is at least eps, for each eps; NaN counts as 0.

    shape: (points,), (steps,) -> (steps,)
    """
    ranked = radius.nan_to_num(nan=-1.0, posinf=float("inf"), neginf=-1.0).double().sort().values
    below = torch.searchsorted(ranked, eps.double())
    return (len(ranked) - below).double() / max(1, len(ranked))


def eps_grid(radius: Tensor, eps: float | None) -> Tensor:
    """Radii for a curve: from almost 0 to where hardly a point is left, ``eps`` among them."""
    finite = radius[radius.isfinite() & (radius > 0)].double().sort().values
    end = 2.0 * (eps or 0.0)
    if len(finite):
        end = max(end, float(finite[int(_HIGHEST * (len(finite) - 1))]))
    grid = torch.linspace(0, max(end or 1.0, _LEAST), _STEPS + 1, dtype=torch.float64)[1:]
    marked = grid if eps is None else torch.cat((grid, grid.new_tensor([eps])))
    return marked.sort().values
