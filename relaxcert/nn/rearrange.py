"""Any movement of numbers: transpositions, slices, repetitions, in one layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput


class Rearrange(nn.Module):
    """(batch, ...) -> (batch, *places.shape): number i of the result is number places[i] of x.

    Args:
        places: where each number of a point stands in the flattened input point; int64, of the
            shape of an output point. Numbers may be left out and may be repeated.
        count: how many numbers an input point has.
    """

    places: Tensor

    def __init__(self, places: Tensor, count: int) -> None:
        super().__init__()
        _check(places, count)
        self.count = count
        self.register_buffer("places", places)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Places from elsewhere are checked like those that are given."""
        places = state_dict.get(prefix + "places")
        if places is not None:
            _check(places, self.count)
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )

    @property
    def repetitions(self) -> int:
        """How often the most repeated number occurs in the result."""
        return int(torch.bincount(self.places.flatten()).max())

    def forward(self, inputs: Tensor) -> Tensor:
        """Move the numbers; raises InvalidInput if the points have another size."""
        flat = inputs.flatten(1)
        if flat.shape[1] != self.count:
            raise InvalidInput(
                f"inputs of shape {tuple(inputs.shape)} have {flat.shape[1]} numbers a point, "
                f"Rearrange expects {self.count}."
            )
        return flat[:, self.places]

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.count} -> {tuple(self.places.shape)}"


def _check(places: Tensor, count: int) -> None:
    if places.dtype != torch.int64 or places.numel() == 0 or places.dim() == 0:
        raise InvalidInput(
            f"places has dtype {places.dtype} and shape {tuple(places.shape)}, expected int64 "
            "and at least one number."
        )
    if int(places.min()) < 0 or int(places.max()) >= count:
        raise InvalidInput(
            f"places lie in {int(places.min())}..{int(places.max())}, but an input point has "
            f"{count} numbers: expected 0..{count - 1}."
        )
