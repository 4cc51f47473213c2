"""Losses on the C + 1 outputs of a GloRoNet in train mode; functions, for use in any loop.

Leino et al., *Globally-Robust Neural Networks*, ICML 2021 (the losses); the paper, Appendix E.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from relaxcert.errors import InvalidInput


def cross_entropy(outputs: Tensor, labels: Tensor, *, temperature: float = 1.0) -> Tensor:
    """CE([y, 0], outputs / T): cross-entropy over the classes and bottom; scalar.

    A temperature below 1 lets small margins, which Lipschitz-bounded networks have, count fully.

    Args:
        outputs: (batch, classes + 1), logits and bottom.
        labels: (batch,), int64; never bottom.
        temperature: T > 0.
    """
    _check_temperature(temperature)
    return F.cross_entropy(outputs / temperature, labels)


def trades(
    outputs: Tensor, labels: Tensor, *, weight: float | Tensor, temperature: float = 1.0
) -> Tensor:
    """CE(y, f / T) + weight * KL([softmax f/T, 0] || softmax [f/T, bottom/T]); scalar.

    The KL term is exactly softplus(bottom - logsumexp f): the classes share what bottom leaves.

    Args:
        outputs: (batch, classes + 1), logits and bottom.
        labels: (batch,), int64.
        weight: lambda of TRADES, >= 0.
        temperature: T > 0; the papers have 1.
    """
    _check_temperature(temperature)
    logits, bottom = (outputs / temperature).tensor_split((outputs.shape[1] - 1,), dim=1)
    divergence = F.softplus(bottom[:, 0] - torch.logsumexp(logits, dim=1))
    return F.cross_entropy(logits, labels) + weight * divergence.mean()


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise InvalidInput(f"temperature={temperature} must be greater than 0.")
