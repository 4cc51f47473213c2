"""What GloRoNet is given, checked: shapes, modes, numbers of classes, points.

Each raises InvalidInput, which names the argument, its value and what to do.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.lipschitz.graph import Graph

Mode = Literal["float64", "float32-first"]


def checked_mode(mode: Mode) -> Mode:
    """The mode, if there is such a one."""
    if mode not in get_args(Mode):
        raise InvalidInput(f"mode={mode!r} must be one of {', '.join(map(repr, get_args(Mode)))}.")
    return mode


def checked_shape(shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The shape of one point as integers, if it can be one."""
    if shape is None:
        return None
    sizes = tuple(int(size) for size in shape)
    if not sizes or min(sizes) < 1:
        raise InvalidInput(
            f"input_shape={shape} must hold the positive sizes of one point, without the batch, "
            "e.g. (3, 32, 32)."
        )
    return sizes


def count_classes(graph: Graph, num_classes: int | None) -> int:
    """The number of logits, from the last layer or as given."""
    found = None if graph.last is None else len(graph.last_weight)
    if found is None and num_classes is None:
        raise InvalidInput("num_classes is missing: the last layer is not nn.Linear, so give it.")
    if found is not None and num_classes is not None and found != num_classes:
        raise InvalidInput(
            f"num_classes={num_classes}, but the last layer of the backbone has {found} outputs: "
            "leave num_classes out, or give the backbone as many outputs."
        )
    count = found if found is not None else num_classes
    if not isinstance(count, int) or count < 2:
        raise InvalidInput(f"the backbone has {count} outputs, expected at least 2 classes.")
    return count


def exact_inputs(inputs: Tensor) -> Tensor:
    """The points in float64, each number exactly."""
    small_integers = (torch.uint8, torch.int8, torch.int16, torch.int32)
    if not inputs.is_floating_point() and inputs.dtype not in small_integers:
        raise InvalidInput(
            f"inputs has dtype {inputs.dtype}, expected a floating dtype or integers of at most 32 "
            "bits, which float64 holds exactly."
        )
    if inputs.dim() < 2:
        raise InvalidInput(
            f"inputs has shape {tuple(inputs.shape)}, expected (batch, ...): for one point use "
            "inputs[None]."
        )
    return inputs.detach().to(torch.float64)


def held_exactly(given: torch.dtype, kept: torch.dtype) -> bool:
    """Whether each number of dtype ``given`` is one of ``kept`` (int32 is not of float32)."""
    if torch.promote_types(given, kept) != kept:
        return False
    if given.is_floating_point or given == torch.bool:
        return True
    return 2 ** torch.iinfo(given).bits <= 2 / torch.finfo(kept).eps


def checked_batch_size(batch_size: int) -> int:
    """The number of points taken at a time."""
    if batch_size < 1:
        raise InvalidInput(f"batch_size={batch_size} must be at least 1.")
    return batch_size
