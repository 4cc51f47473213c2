"""The Householder activation (Singla, Singla & Feizi, ICLR 2022): a learned reflection of pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput


class Householder(nn.Module):
    """Consecutive pairs z = (z_2i, z_2i+1) of dimension 1 are reflected where they lie on one side.

    With v = (sin(t / 2), -cos(t / 2)), t one learned angle a pair:

        z -> z where v . z > 0, else z - 2 (v . z) v = (c z_1 + s z_2, s z_1 - c z_2)

    with c = cos t, s = sin t. At t = pi / 2 it sorts the pair in descending order. It is
    1-Lipschitz in l2.

    Args:
        channels: the size of dimension 1, even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 2 or channels % 2:
            raise InvalidInput(f"channels={channels} must be even and at least 2: pairs are taken.")
        self.channels = channels
        self.angles = nn.Parameter(torch.full((channels // 2,), torch.pi / 2))

    def forward(self, inputs: Tensor) -> Tensor:
        """Reflect; shape (batch, channels, ...) unchanged."""
        if inputs.dim() < 2 or inputs.shape[1] != self.channels:
            raise InvalidInput(
                f"Householder({self.channels}) got shape {tuple(inputs.shape)}, expected (batch, "
                f"{self.channels}, ...)."
            )
        first, second = inputs.unflatten(1, (self.channels // 2, 2)).unbind(2)
        shape = (-1, *[1] * (inputs.dim() - 2))
        angles = self.angles.view(shape)
        half, cos, sin = angles / 2, angles.cos(), angles.sin()
        kept = half.sin() * first - half.cos() * second > 0
        pairs = (
            torch.where(kept, first, cos * first + sin * second),
            torch.where(kept, second, sin * first - cos * second),
        )
        return torch.stack(pairs, dim=2).flatten(1, 2)

    def extra_repr(self) -> str:
        """The size."""
        return str(self.channels)
