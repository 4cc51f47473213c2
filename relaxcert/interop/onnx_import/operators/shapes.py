"""Flatten, Reshape, Transpose, Squeeze, Unsqueeze, DepthToSpace, SpaceToDepth: movements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from relaxcert.interop.onnx_import.builder import Builder
from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.registry import operator
from relaxcert.interop.onnx_import.values import Activation, Value
from relaxcert.nn.shapes import InvertibleDownsampling, Permute


def moved(
    node: Node,
    build: Builder,
    value: Value,
    function: Callable[[np.ndarray], np.ndarray],
    hint: nn.Module | None = None,
) -> Value:
    """Move the numbers of a constant or of an activation."""
    if isinstance(value, Activation):
        return build.move(node, value, function, hint)
    return np.asarray(function(value))


def axis_of(node: Node, axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < rank:
        raise node.error(f"({node.op}) names axis {axis} of a value with {rank} dimensions")
    return axis % rank


def axes_of(node: Node, place: int, since: int) -> list[int] | None:
    """Axes: an attribute before opset ``since``, an input from then on."""
    if node.version < since:
        return node.attribute("axes", list) if node.has("axes") else None
    return None if node.optional(place) is None else node.whole_numbers(place)


@operator("Flatten")
def flatten(node: Node, build: Builder) -> Value:
    """Everything before ``axis`` and everything after it, as a matrix."""
    value = node.activation(0)
    axis = node.attribute("axis", 1)
    rank = len(value.shape)
    axis = axis if axis == rank else axis_of(node, axis, rank)
    # A batch of one is flattened alike with axis 0, which would else mix the points.
    first = math.prod(value.shape[:axis])
    return build.move(node, value, lambda places: places.reshape(first, -1))


@operator("Reshape")
def reshape(node: Node, build: Builder) -> Value:
    """The same numbers in another shape; 0 keeps a size, one -1 is inferred."""
    value = node.value(0)
    keep = not node.attribute("allowzero", 0)
    asked = node.whole_numbers(1)
    if keep and any(s == 0 for s in asked[len(value.shape) :]):
        raise node.error(f"(Reshape) keeps a size that shape {value.shape} does not have")
    sizes = [value.shape[i] if size == 0 and keep else size for i, size in enumerate(asked)]
    return moved(node, build, value, _reshaped(node, value.shape, sizes))


def _reshaped(
    node: Node, before: Sequence[int], sizes: list[int]
) -> Callable[[np.ndarray], np.ndarray]:
    total, known = math.prod(before), math.prod(size for size in sizes if size != -1)
    inferred = sizes.count(-1)
    if inferred == 1 and known > 0 and total % known == 0:
        sizes = [total // known if size == -1 else size for size in sizes]
        known, inferred = total, 0
    if inferred or known != total or min(sizes, default=0) < 0:
        raise node.error(f"({node.op}) cannot bring shape {tuple(before)} into {tuple(sizes)}")
    return lambda places: places.reshape(sizes)


@operator("Squeeze")
def squeeze(node: Node, build: Builder) -> Value:
    """Leave out dimensions of size 1."""
    value = node.value(0)
    rank = len(value.shape)
    axes = axes_of(node, 1, 13)
    chosen = (
        [i for i, size in enumerate(value.shape) if size == 1]
        if axes is None
        else [axis_of(node, axis, rank) for axis in axes]
    )
    if any(value.shape[axis] != 1 for axis in chosen):
        raise node.error(f"(Squeeze) leaves out axes {chosen} of shape {value.shape}")
    sizes = [size for i, size in enumerate(value.shape) if i not in chosen]
    return moved(node, build, value, lambda places: places.reshape(sizes))


@operator("Unsqueeze")
def unsqueeze(node: Node, build: Builder) -> Value:
    """Insert dimensions of size 1."""
    value = node.value(0)
    axes = axes_of(node, 1, 13)
    if axes is None:
        raise node.error("(Unsqueeze) names no axes")
    rank = len(value.shape) + len(axes)
    chosen = {axis_of(node, axis, rank) for axis in axes}
    if len(chosen) != len(axes):
        raise node.error(f"(Unsqueeze) names an axis twice: {axes}")
    rest = iter(value.shape)
    sizes = [1 if i in chosen else next(rest) for i in range(rank)]
    return moved(node, build, value, lambda places: places.reshape(sizes))


@operator("Transpose")
def transpose(node: Node, build: Builder) -> Value:
    """Permute the dimensions."""
    value = node.value(0)
    rank = len(value.shape)
    order = node.attribute("perm", list(reversed(range(rank))))
    if sorted(order) != list(range(rank)):
        raise node.error(f"(Transpose) has perm={order} for shape {value.shape}")
    hint = Permute(*order) if order[:1] == [0] else None
    return moved(node, build, value, lambda places: places.transpose(order), hint)


@operator("SpaceToDepth")
def space_to_depth(node: Node, build: Builder) -> Value:
    """Blocks of pixels become channels: (C, H, W) -> (b b C, H / b, W / b)."""
    value, size = _image_and_block(node)
    channels, height, width = value.shape[1:]
    if height % size or width % size:
        raise node.error(f"(SpaceToDepth) cannot cut shape {value.shape} into blocks of {size}")
    blocks = (1, channels, height // size, size, width // size, size)
    after = (1, channels * size * size, height // size, width // size)
    hint = InvertibleDownsampling() if size == 2 else None
    return build.move(
        node,
        value,
        lambda places: places.reshape(blocks).transpose(0, 3, 5, 1, 2, 4).reshape(after),
        hint,
    )


@operator("DepthToSpace")
def depth_to_space(node: Node, build: Builder) -> Value:
    """Channels become blocks of pixels; mode DCR or CRD says in which order."""
    value, size = _image_and_block(node)
    mode = node.attribute("mode", "DCR")
    channels, height, width = value.shape[1:]
    if mode not in ("DCR", "CRD") or channels % (size * size):
        raise node.error(f"(DepthToSpace, {mode}) cannot spread the channels of {value.shape}")
    left = channels // (size * size)
    dcr = mode == "DCR"
    blocks = (1, size, size, left) if dcr else (1, left, size, size)
    order = (0, 3, 4, 1, 5, 2) if dcr else (0, 1, 4, 2, 5, 3)
    return build.move(
        node,
        value,
        lambda places: (
            places.reshape(*blocks, height, width)
            .transpose(order)
            .reshape(1, left, height * size, width * size)
        ),
    )


def _image_and_block(node: Node) -> tuple[Activation, int]:
    value, size = node.activation(0), node.attribute("blocksize", int)
    if len(value.shape) != 4 or value.shape[0] != 1 or not 1 <= size <= 2**16:
        raise node.error(f"({node.op}) gets shape {value.shape} and a blocksize of {size}")
    return value, size
