"""Layers that certified networks are made of and that torch.nn does not have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput


class MinMax(nn.Module):
    """Consecutive pairs (z_2i, z_2i+1) become (min, max) along dimension 1: GroupSort of size 2.

    1-Lipschitz in every norm, gradient norm preserving, free of rounding (paper, Appendix E).
    Shape: (batch, features, ...) with an even number of features, unchanged.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Sort each pair; raises InvalidInput for an odd number of features."""
        features = inputs.shape[1]
        if features % 2:
            raise InvalidInput(
                f"MinMax got {features} features in dimension 1, expected an even number: pairs "
                "are sorted; give the layer before it an even number of outputs."
            )
        pairs = inputs.unflatten(1, (features // 2, 2))
        left, right = pairs.unbind(2)
        sorted_pairs = (torch.minimum(left, right), torch.maximum(left, right))
        return torch.stack(sorted_pairs, dim=2).flatten(1, 2)


class InputNormalisation(nn.Module):
    """(x - mean) / std, elementwise; both fixed, both broadcast against one input.

    ``eps`` of a property stays in the units of x: the rule of this layer multiplies the Lipschitz
    bound by max 1/std.

    Args:
        mean: a number or a tensor that broadcasts with one input, e.g. (features,) or (C, 1, 1).
        std: likewise; every entry greater than 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor | float, std: Tensor | float) -> None:
        super().__init__()
        mean, std = torch.as_tensor(mean).float(), torch.as_tensor(std).float()
        if not bool(torch.isfinite(mean).all()):
            raise InvalidInput("mean must be finite in every entry.")
        if not bool((torch.isfinite(std) & (std > 0)).all()):
            raise InvalidInput(
                f"std must be finite and greater than 0 in every entry, smallest is "
                f"{float(std.min())}: leave constant features out or give them std 1."
            )
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise; shape (batch, ...) unchanged; raises InvalidInput if it would change.

        An input that is stretched to the shape of the constants (one grey channel against three
        means) would be copied, and copies multiply the Lipschitz constant.
        """
        outputs = (inputs - self.mean) / self.std
        if outputs.shape != inputs.shape:
            raise InvalidInput(
                f"inputs of shape {tuple(inputs.shape)} do not fit InputNormalisation with mean "
                f"{tuple(self.mean.shape)} and std {tuple(self.std.shape)}: its constants must "
                "broadcast against one input without changing its shape."
            )
        return outputs

    def extra_repr(self) -> str:
        """The shapes of the two constants."""
        return f"mean={tuple(self.mean.shape)}, std={tuple(self.std.shape)}"
