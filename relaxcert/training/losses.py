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
    divergence = _softplus(bottom[:, 0] - torch.logsumexp(logits, dim=1))
    return F.cross_entropy(logits, labels) + weight * divergence.mean()


def certified_set(
    logits: Tensor,
    margins: Tensor,
    labels: Tensor,
    *,
    temperature: float = 1.0,
    ranking_weight: float = 0.0,
) -> Tensor:
    """softplus(-M_y / T) + weight * CE(y, f / T): the logistic loss of the VRA itself; scalar.

    M_y is positive exactly where the point counts for the VRA, so this asks for a certified set
    that holds the label, and only by the second term for the label to score highest in it. The
    cross-entropy of the papers asks for the latter alone, which spends capacity on borders between
    classes that may be confused. Ours; the papers have no loss of this kind.

    Args:
        logits: (batch, classes), and
        margins: (batch,), M_y, both of ``net.label_margins``.
        labels: (batch,), int64.
        temperature: T > 0.
        ranking_weight: of the cross-entropy, >= 0.
    """
    _check_temperature(temperature)
    loss = _softplus(-margins / temperature).mean()
    if ranking_weight == 0.0:
        return loss
    return loss + ranking_weight * F.cross_entropy(logits / temperature, labels)


def _softplus(values: Tensor) -> Tensor:
    """log(1 + exp(x)); torch's own is x itself above 20, a step of 2e-9."""
    return -F.logsigmoid(-values)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise InvalidInput(f"temperature={temperature} must be greater than 0.")
