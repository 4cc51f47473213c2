"""Layers that move numbers around, and the scaling by a constant."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput


class Reshape(nn.Module):
    """(batch, ...) -> (batch, *shape): the same numbers in another shape; one -1 is inferred."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        if not shape or sum(size == -1 for size in shape) > 1 or any(s < -1 for s in shape):
            raise InvalidInput(f"shape={shape} must hold sizes of at least 0, and at most one -1.")
        self.shape = shape

    def forward(self, inputs: Tensor) -> Tensor:
        """Reshape each point."""
        return inputs.reshape(inputs.shape[0], *self.shape)

    def extra_repr(self) -> str:
        """The shape."""
        return ", ".join(map(str, self.shape))


class Permute(nn.Module):
    """Permute the dimensions; ``order`` lists all of them and keeps the batch first: 0, 2, 3, 1."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        if sorted(order) != list(range(len(order))) or order[:1] != (0,):
            raise InvalidInput(
                f"order={order} must list each dimension once and begin with 0, the batch: points "
                "must not be mixed."
            )
        self.order = order

    def forward(self, inputs: Tensor) -> Tensor:
        """Permute."""
        return inputs.permute(self.order)

    def extra_repr(self) -> str:
        """The order."""
        return ", ".join(map(str, self.order))


class Scale(nn.Module):
    """factor * x for a fixed number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        if not math.isfinite(factor):
            raise InvalidInput(f"factor={factor} must be finite.")
        self.factor = float(factor)

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply."""
        return inputs * self.factor

    def extra_repr(self) -> str:
        """The factor."""
        return repr(self.factor)


class Part(nn.Module):
    """One of ``count`` equal chunks along dimension ``dim`` (not the batch)."""

    def __init__(self, index: int, count: int, dim: int) -> None:
        super().__init__()
        if dim == 0 or not 0 <= index < count:
            raise InvalidInput(f"index={index}, count={count}, dim={dim} do not name a chunk.")
        self.index, self.count, self.dim = index, count, dim

    def forward(self, inputs: Tensor) -> Tensor:
        """Select the chunk; raises InvalidInput where ``dim`` is the batch."""
        if self.dim % inputs.dim() == 0:
            raise InvalidInput(f"dim={self.dim} is the batch of {inputs.dim()} dimensions.")
        return torch.chunk(inputs, self.count, self.dim)[self.index]

    def extra_repr(self) -> str:
        """Which chunk."""
        return f"{self.index} of {self.count}, dim={self.dim}"


class InvertibleDownsampling(nn.Module):
    """Space to depth with factor 2: (B, C, H, W) -> (B, 4C, H/2, W/2), a permutation of numbers.

    Concatenates x[:, :, i::2, j::2] on the channels (paper, Appendix E); H and W must be even.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Move each 2 x 2 block of pixels into the channels."""
        if inputs.dim() != 4 or inputs.shape[2] % 2 or inputs.shape[3] % 2:
            raise InvalidInput(
                f"InvertibleDownsampling got shape {tuple(inputs.shape)}, expected (batch, "
                "channels, height, width) with even height and width."
            )
        corners = [inputs[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return torch.cat(corners, dim=1)


class GroupSort(nn.Module):
    """Sort groups of ``size`` consecutive channels (dimension 1); MinMax is size 2.

    1-Lipschitz in every norm, free of rounding.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 2:
            raise InvalidInput(f"size={size} must be at least 2.")
        self.size = size

    def forward(self, inputs: Tensor) -> Tensor:
        """Sort each group in ascending order."""
        channels = inputs.shape[1]
        if channels % self.size:
            raise InvalidInput(
                f"GroupSort(size={self.size}) got {channels} channels in dimension 1, expected a "
                "multiple of its size."
            )
        groups = inputs.unflatten(1, (channels // self.size, self.size))
        return groups.sort(dim=2).values.flatten(1, 2)

    def extra_repr(self) -> str:
        """The size."""
        return f"size={self.size}"
