"""Landsat Satimage, the embedded default: real data, 130 kB, no download.

Statlog (Landsat Satellite), A. Srinivasan 1993, UCI Machine Learning Repository, CC BY 4.0; this
copy from the R package mlbench. 6,435 patches of 3 x 3 pixels in 4 spectral bands (pixel-major),
with the class of the centre pixel. The official split is used: neighbouring patches overlap, so
the rows are never shuffled across it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from relaxcert.errors import InvalidInput

CLASS_NAMES = (
    "red soil",
    "cotton crop",
    "grey soil",
    "damp grey soil",
    "soil with vegetation stubble",
    "very damp grey soil",
)
_TRAIN_ROWS = 4435


@dataclass(frozen=True)
class Split:
    """Points and labels: ``inputs`` (points, features) float32, ``labels`` (points,) int64."""

    inputs: Tensor
    labels: Tensor
    class_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def landsat(part: Literal["train", "test", "fit", "validation"]) -> Split:
    """The official train (4,435) or test (2,000) part; inputs are the bytes / 255.

    ``fit`` and ``validation`` divide the train part for choosing recipes without the test part:
    every fifth block of 100 consecutive rows is validation (blocks, because neighbours overlap).
    """
    with resources.files("relaxcert.data").joinpath("satimage.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        inputs = torch.from_numpy(arrays["x"].astype(np.float32)) / 255.0
        labels = torch.from_numpy(arrays["y"].astype(np.int64))
    rows = torch.arange(len(labels))
    held_out = (rows // 100) % 5 == 4
    chosen = {
        "train": rows < _TRAIN_ROWS,
        "test": rows >= _TRAIN_ROWS,
        "fit": (rows < _TRAIN_ROWS) & ~held_out,
        "validation": (rows < _TRAIN_ROWS) & held_out,
    }
    if part not in chosen:
        raise InvalidInput(f"part={part!r} must be one of {', '.join(chosen)}.")
    return Split(inputs[chosen[part]], labels[chosen[part]], CLASS_NAMES)
