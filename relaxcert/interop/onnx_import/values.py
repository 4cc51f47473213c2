"""What flows through an ONNX graph while it is read: constants, and numbers that hang on the input.

A graph is read for a batch of one point: shapes are those that ONNX would have for it, and what
only moves numbers around (Reshape, Transpose, Slice, ...) is kept as a list of places, and becomes
a layer only when a layer needs it. So a chain of such operators becomes one layer, or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch import nn


@dataclass(eq=False)
class Activation:
    """Numbers that depend on the input.

    Attributes:
        base: the step of the network that computes them.
        shape: for a batch of one point, as in ONNX.
        places: where each number stands in the flattened result of ``base``, in this shape; None
            if they are that result, unmoved.
        hint: a layer that makes just this movement, where torch or relaxcert has one.
    """

    base: int
    shape: tuple[int, ...]
    places: np.ndarray | None = None
    hint: nn.Module | None = None


Value: TypeAlias = "Activation | np.ndarray"
