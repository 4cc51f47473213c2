"""In which form a network is optimised, and its way back to plain layers."""

from __future__ import annotations

from torch import nn

from relaxcert.lipschitz.materialised import materialised
from relaxcert.nn.orthogonal import baked, orthogonalised
from relaxcert.nn.parametrised import almost_orthogonal, normalised_last
from relaxcert.training.recipe import Optimisation


def in_training_form(backbone: nn.Module, settings: Optimisation) -> nn.Module:
    """A copy whose weights are computed from free ones as the settings ask; or the backbone itself.

    Orthogonal layers begin with fresh weights, drawn from torch's global generator.
    """
    if settings.orthogonal:
        backbone = orthogonalised(backbone)
    if settings.convolutions == "almost-orthogonal":
        backbone = almost_orthogonal(backbone)
    if settings.last_layer == "normalised":
        backbone = normalised_last(backbone)
    return backbone


def in_plain_form(backbone: nn.Module) -> nn.Module:
    """A copy with plain layers that hold the present numbers; what is certified and saved."""
    return materialised(baked(backbone))
