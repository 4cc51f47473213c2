"""Blocks with branches: residuals and concatenations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput


class Residual(nn.Module):
    """x + block(x), for a block that keeps the shape.

    For a linear block (a convolution, a dense layer) the sum is bounded as one linear map, which is
    tighter than 1 + L (LiResNet: Hu et al., NeurIPS 2023).
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, inputs: Tensor) -> Tensor:
        """Add; shape unchanged."""
        return inputs + self.block(inputs)


class Concatenation(nn.Module):
    """The results of several branches side by side, along dimension 1."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        if not branches:
            raise InvalidInput("branches is empty: give at least one.")
        self.branches = nn.ModuleList(branches)

    def forward(self, inputs: Tensor) -> Tensor:
        """Run all branches on the same input and concatenate."""
        return torch.cat([branch(inputs) for branch in self.branches], dim=1)
