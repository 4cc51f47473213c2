"""Concat, Split, Slice, Gather: taking apart and putting together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from relaxcert.interop.onnx_import.builder import Builder
from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.operators.shapes import axes_of, axis_of, moved
from relaxcert.interop.onnx_import.registry import operator
from relaxcert.interop.onnx_import.values import Activation, Value


@operator("Concat")
def concatenate(node: Node, build: Builder) -> Value:
    """Values along an axis."""
    values = [node.value(place) for place in range(node.count)]
    if not values:
        raise node.error("(Concat) has no inputs")
    axis = axis_of(node, node.attribute("axis", int), len(values[0].shape))
    if any(isinstance(value, Activation) for value in values):
        chosen = [node.activation(place) for place in range(node.count)]
        return build.concatenate(node, chosen, axis)
    arrays = [node.constant(place) for place in range(node.count)]
    try:
        build.account(node, sum(array.size for array in arrays))
        return np.concatenate(arrays, axis)
    except ValueError as error:
        raise node.error(f"(Concat) has constants that do not fit: {error}") from error


@operator("Split")
def split(node: Node, build: Builder) -> Sequence[Value]:
    """Consecutive parts along an axis: of the sizes given, or equal ones."""
    value = node.value(0)
    axis = axis_of(node, node.attribute("axis", 0), len(value.shape))
    size = value.shape[axis]
    sizes = _split_sizes(node, size)
    if sum(sizes) != size or min(sizes) < 1 or len(sizes) != node.outputs:
        raise node.error(f"(Split) cannot split {size} into {sizes} for {node.outputs} outputs")
    ends = np.cumsum(sizes)
    return [
        moved(node, build, value, _cut(axis, int(end - part), int(end), 1))
        for part, end in zip(sizes, ends, strict=True)
    ]


def _split_sizes(node: Node, size: int) -> list[int]:
    if node.version < 13 and node.has("split"):
        return node.attribute("split", list)
    if node.version >= 13 and node.optional(1) is not None:
        return node.whole_numbers(1)
    count = node.attribute("num_outputs", node.outputs) if node.version >= 18 else node.outputs
    if count != node.outputs or count > size:
        raise node.error(f"(Split) cannot split {size} into {count} for {node.outputs} outputs")
    # From opset 18 on the last part may be smaller.
    part = -(-size // count)
    return [part] * (count - 1) + [size - part * (count - 1)]


@operator("Slice")
def cut_out(node: Node, build: Builder) -> Value:
    """Ranges with steps along some axes."""
    value = node.value(0)
    rank = len(value.shape)
    if node.version < 10:
        starts, ends = node.attribute("starts", list), node.attribute("ends", list)
        axes, steps = axes_of(node, 3, 10), None
    else:
        starts, ends = node.whole_numbers(1), node.whole_numbers(2)
        axes = axes_of(node, 3, 10)
        steps = None if node.optional(4) is None else node.whole_numbers(4)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.error(f"(Slice) has starts {starts}, ends {ends}, axes {axes}, steps {steps}")
    chosen = [axis_of(node, axis, rank) for axis in axes]
    if len(set(chosen)) != len(chosen):
        raise node.error(f"(Slice) names an axis twice: {axes}")
    for axis, start, end, step in zip(chosen, starts, ends, steps, strict=True):
        size = value.shape[axis]
        first, last = _bounds(size, start, end, step)
        if len(range(first, last, step)) == 0:
            raise node.error(f"(Slice) leaves nothing of shape {value.shape}")
        value = moved(node, build, value, _cut(axis, first, last, step))
    return value


def _bounds(size: int, start: int, end: int, step: int) -> tuple[int, int]:
    """As ONNX defines them: negative ones count from the end, then they are clamped."""
    start, end = (place + size if place < 0 else place for place in (start, end))
    if step > 0:
        return min(max(start, 0), size), min(max(end, 0), size)
    return min(max(start, 0), size - 1), min(max(end, -1), size - 1)


def _cut(axis: int, start: int, end: int, step: int) -> Callable[[np.ndarray], np.ndarray]:
    # end is -1 only for a negative step that goes on to the very first entry.
    chosen = slice(start, None if end < 0 else end, step)
    return lambda places: places[(slice(None),) * axis + (chosen,)]


@operator("Gather")
def gather(node: Node, build: Builder) -> Value:
    """Entries along an axis, by constant indices."""
    value, indices = node.value(0), node.constant(1)
    axis = axis_of(node, node.attribute("axis", 0), len(value.shape))
    size = value.shape[axis]
    if indices.dtype.kind != "i" or not ((indices >= -size) & (indices < size)).all():
        raise node.error(f"(Gather) has indices that do not lie in the {size} entries of its axis")
    if size:
        rest = int(np.prod(value.shape, dtype=object)) // size
        build.account(node, rest * indices.size)
    return moved(node, build, value, lambda places: np.take(places, indices, axis))
