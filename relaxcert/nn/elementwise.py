"""Layers that treat each number by itself and that torch.nn does not have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput


class Abs(nn.Module):
    """|x|: 1-Lipschitz in every norm, free of rounding."""

    def forward(self, inputs: Tensor) -> Tensor:
        """The absolute value; shape unchanged."""
        return inputs.abs()


class Diagonal(nn.Module):
    """factors * x, elementwise; a fixed diagonal matrix.

    Args:
        factors: finite numbers that broadcast with one input without changing its shape.
    """

    factors: Tensor

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        if not factors.is_floating_point() or not bool(torch.isfinite(factors).all()):
            raise InvalidInput(f"factors ({factors.dtype}) must be finite floating-point numbers.")
        self.register_buffer("factors", factors)

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply; raises InvalidInput if that would change the shape of the input."""
        outputs = inputs * self.factors
        if outputs.shape != inputs.shape:
            raise InvalidInput(
                f"inputs of shape {tuple(inputs.shape)} do not fit factors of shape "
                f"{tuple(self.factors.shape)}, which must broadcast without changing it."
            )
        return outputs

    def extra_repr(self) -> str:
        """The shape of the factors."""
        return f"factors={tuple(self.factors.shape)}"
