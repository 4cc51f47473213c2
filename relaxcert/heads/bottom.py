"""Bottom, the extra logit that wins unless the guarantee is certified (equations 1 and 5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relaxcert.heads.outcome import Margin
from relaxcert.lipschitz.directed import finite_rows, tensor_up


def with_training_bottom(logits: Tensor, outcome: Margin) -> Tensor:
    """Append f_bottom = max_i f_i - m, differentiably; (batch, C) -> (batch, C + 1).

    Where no prefix may serve, m = -inf; there the finite stand-in keeps loss and gradients finite,
    with bottom at or above the highest logit.
    """
    margin = torch.where(outcome.margin.isfinite(), outcome.margin, outcome.fallback)
    bottom = logits.amax(1) - margin
    return torch.cat((logits, bottom[:, None]), dim=1)


def proved_bottom(logits: Tensor, outcome: Margin, current: Tensor | None = None) -> Tensor:
    """A bottom such that an argmax other than bottom implies a certificate; (batch,).

    f_y - m rounds to f_y when |m| is small, and argmax would then pick y although m < 0. So bottom
    is rounded up, and lies strictly above f_y wherever m > 0 is not proved; it is infinite where a
    logit is not finite, or where ``current`` (scalar bool) says that the bounds no longer hold.
    """
    usable = finite_rows(logits)
    if current is not None:
        usable = usable & current
    margin = torch.where(outcome.margin.isfinite(), outcome.margin, outcome.fallback)
    highest = logits.amax(1)
    exact = tensor_up(highest.double() - margin)
    bottom = exact.to(logits.dtype)
    bottom = torch.where(bottom.double() < exact, tensor_up(bottom), bottom)
    proved = usable & (outcome.margin > 0)
    bottom = torch.where(proved, bottom, torch.maximum(bottom, tensor_up(highest)))
    return torch.where(usable, bottom, torch.full_like(bottom, math.inf))


def bottom_above(logits: Tensor, outcome: Margin) -> Tensor:
    """The same in the precision of the logits, for points that are known to be finite; (batch,).

    fl(f_y - m) is at least f_y where m <= 0, as rounding is monotone; and the next number is above.
    """
    margin = torch.where(outcome.margin.abs() < math.inf, outcome.margin, outcome.fallback)
    return tensor_up(logits.amax(1) - margin)


def shown_logits(logits: Tensor) -> Tensor:
    """The logits, with rows that are not finite made finite, so that an infinite bottom wins."""
    largest = torch.finfo(logits.dtype).max
    finite = finite_rows(logits)[:, None]
    return torch.where(finite, logits, logits.nan_to_num(-largest, largest, -largest))
