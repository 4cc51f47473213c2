"""The network under construction: steps, and the movements between them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.values import Activation
from relaxcert.nn.layers import InputNormalisation
from relaxcert.nn.rearrange import Rearrange
from relaxcert.nn.shapes import Reshape

_NUMBERS = 2**24  # numbers of one point in one step; an image of 224 x 224 has 150,528
_PLACES = 2**26  # places kept in all, 8 bytes each

StepKind = Literal["input", "layer", "sum", "concatenation"]


@dataclass(frozen=True)
class Step:
    """One step of the network.

    Attributes:
        kind: what it does; ``sum`` is operands[0] + sign * operands[1].
        operands: the steps that it takes.
        shape: of its result for a batch of one.
        layer: for a layer.
        sign: for a sum.
    """

    kind: StepKind
    operands: tuple[int, ...]
    shape: tuple[int, ...]
    layer: nn.Module | None = None
    sign: int = 1


class Builder:
    """Collects the steps of a network.

    Args:
        shape: of the input, for a batch of one.
        dtype: of all its numbers.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.numpy_dtype: np.dtype[Any] = torch.empty(0, dtype=dtype).numpy().dtype
        self.steps: list[Step] = [Step("input", (), shape)]
        self._movements: dict[tuple[int, bytes, tuple[int, ...]], int] = {}
        self._memos: dict[tuple[str, int], Activation] = {}
        self._places = 0

    def layer(
        self, node: Node, value: Activation, layer: nn.Module, shape: Sequence[int] | None = None
    ) -> Activation:
        """Apply a layer; ``shape`` is that of the result, if it is another one."""
        before = self.step_of(node, value)
        after = value.shape if shape is None else tuple(shape)
        return self._add(node, Step("layer", (before,), after, layer))

    def sum(self, node: Node, left: Activation, right: Activation, sign: int) -> Activation:
        """left + sign * right, of equal shapes."""
        if left.shape != right.shape:
            raise node.error(
                f"combines shapes {left.shape} and {right.shape}: only equal ones are supported"
            )
        operands = (self.step_of(node, left), self.step_of(node, right))
        return self._add(node, Step("sum", operands, left.shape, sign=sign))

    def concatenate(self, node: Node, values: Sequence[Activation], axis: int) -> Activation:
        """The values along an axis of theirs (not the batch)."""
        shapes = [value.shape for value in values]
        rank = len(shapes[0])
        if not 0 < axis < rank or any(
            len(shape) != rank or shape[:axis] + shape[axis + 1 :] != _without(shapes[0], axis)
            for shape in shapes
        ):
            raise node.error(f"concatenates shapes {shapes} along axis {axis}, which do not fit")
        if len({value.base for value in values}) == 1:
            places = [self.places_of(node, value) for value in values]
            self.account(node, sum(p.size for p in places))
            return Activation(values[0].base, *_shaped(np.concatenate(places, axis)))
        operands = tuple(self.step_of(node, value) for value in values)
        total = sum(shape[axis] for shape in shapes)
        shape = (*shapes[0][:axis], total, *shapes[0][axis + 1 :])
        return self._add(node, Step("concatenation", operands, shape, sign=axis))

    def memo(self, key: tuple[str, int], make: Callable[[], Activation]) -> Activation:
        """The same result for the same key: computed once, used by several nodes."""
        if key not in self._memos:
            self._memos[key] = make()
        return self._memos[key]

    def move(
        self,
        node: Node,
        value: Activation,
        function: Callable[[np.ndarray], np.ndarray],
        hint: nn.Module | None = None,
    ) -> Activation:
        """Move numbers around as ``function`` moves the entries of an array of that shape.

        ``hint`` is a layer that makes this movement, used if it is the only one.
        """
        places = function(self.places_of(node, value))
        self.account(node, places.size)
        unmoved = value.places is None
        return Activation(value.base, *_shaped(places), hint if unmoved else None)

    def places_of(self, node: Node, value: Activation) -> np.ndarray:
        """Where each number stands in its base, in the shape of the value."""
        if value.places is not None:
            return value.places
        self.account(node, math.prod(value.shape))
        return np.arange(math.prod(value.shape), dtype=np.int64).reshape(value.shape)

    def step_of(self, node: Node, value: Activation) -> int:
        """The step whose result is this value, adding a layer for a movement if need be."""
        if value.shape[:1] != (1,):
            raise node.error(
                f"gets the shape {value.shape} for a batch of one point: the batch must stay in "
                "dimension 0, with one entry a point"
            )
        if value.places is None:
            return value.base
        key = (
            value.base,
            hashlib.sha256(np.ascontiguousarray(value.places).data).digest(),
            value.shape,
        )
        if key not in self._movements:
            layer = self._movement(value, value.places)
            step = value.base
            if layer is not None:
                self.steps.append(Step("layer", (value.base,), value.shape, layer))
                step = len(self.steps) - 1
            self._movements[key] = step
        return self._movements[key]

    def _movement(self, value: Activation, places: np.ndarray) -> nn.Module | None:
        before = self.steps[value.base].shape
        if np.array_equal(places.reshape(-1), np.arange(math.prod(before))):
            if before == value.shape:
                return None
            return nn.Flatten() if len(value.shape) == 2 else Reshape(*value.shape[1:])
        if value.hint is not None:
            return value.hint
        return Rearrange(torch.from_numpy(places[0].copy()), math.prod(before))

    def tensor(self, array: np.ndarray | Tensor) -> Tensor:
        """A copy of an array as a tensor of the network's type."""
        if isinstance(array, Tensor):
            return array.detach()
        return torch.tensor(array, dtype=self.dtype)

    def parameter(self, array: np.ndarray | Tensor) -> nn.Parameter:
        """The same as a parameter."""
        return nn.Parameter(self.tensor(array))

    def normalisation(self, mean: np.ndarray | Tensor, std: np.ndarray) -> InputNormalisation:
        """(x - mean) / std with exactly these numbers."""
        layer = InputNormalisation(0.0, 1.0)
        # Set afterwards: its constructor rounds to float32.
        layer.mean, layer.std = self.tensor(mean), self.tensor(std)
        return layer

    def _add(self, node: Node, step: Step) -> Activation:
        if math.prod(step.shape) > _NUMBERS:
            raise node.error(
                f"gives {math.prod(step.shape)} numbers for each point (shape {step.shape}), more "
                f"than the {_NUMBERS} that are supported"
            )
        if step.layer is None and step in self.steps:
            return Activation(self.steps.index(step), step.shape)
        self.steps.append(step)
        return Activation(len(self.steps) - 1, step.shape)

    def account(self, node: Node, count: int) -> None:
        """Refuse before memory is taken for it."""
        self._places += count
        if count > _NUMBERS or self._places > _PLACES:
            raise node.error("moves more numbers around than are supported")


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _shaped(places: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    return places.shape, np.ascontiguousarray(places)
