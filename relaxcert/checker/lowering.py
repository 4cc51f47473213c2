"""Layers for inputs of one shape: everything becomes a matrix, a pair, or acts entry by entry.

A value of shape (channels, ...) is a vector in row order. A convolution is its unrolled matrix,
whose entries are copies of the kernel's, so nothing is rounded here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaxcert.checker.model import Array, Layer
from relaxcert.checker.outcome import Unreadable

MOST_ENTRIES = 2**22  # of one matrix
Shape = tuple[int, ...]


def lowered(layers: Sequence[Layer], shape: Shape) -> tuple[tuple[Layer, ...], int]:
    """The layers that change anything, for points of this shape, and the number of classes.

    Raises:
        Unreadable: layers that do not fit each other or the points, or too large convolutions.
    """
    found: list[Layer] = []
    for layer in layers:
        match layer.kind:
            case "Linear":
                shape = _dense(layer, shape, found)
            case "Conv1d" | "Conv2d" | "Conv3d":
                shape = _convolution(layer, shape, found)
            case "MinMax":
                found.append(_pairs(layer, shape))
            case "InputNormalisation":
                found.append(_normalisation(layer, shape))
            case "Flatten":
                shape = (math.prod(shape),)
            case "Identity" | "Dropout":
                pass
            case _:
                found.append(layer)
    if len(shape) != 1 or shape[0] < 2:
        raise Unreadable(f"the network gives {shape} for a point, expected one logit a class.")
    return tuple(found), shape[0]


def _dense(layer: Layer, shape: Shape, found: list[Layer]) -> Shape:
    weight = layer.numbers["weight"]
    if weight.ndim != 2 or shape != (weight.shape[1],):
        raise Unreadable(
            f"layer {layer.path} has a weight of shape {weight.shape}, but gets points of shape "
            f"{shape}: other data than the network's, or a Flatten is missing."
        )
    bias = layer.numbers.get("bias", np.zeros(len(weight)))
    if weight.size > MOST_ENTRIES:
        raise Unreadable(f"layer {layer.path} has more than {MOST_ENTRIES} entries.")
    if bias.shape != (len(weight),):
        raise Unreadable(f"layer {layer.path}: its bias has shape {bias.shape}.")
    found.append(Layer(layer.path, "Linear", {"weight": weight, "bias": bias}))
    return (len(weight),)


@dataclass(frozen=True, slots=True)
class _Geometry:
    """y[o, q] = b[o] + sum over i, j of w[o, i, j] x[i, stride q + dilation j - padding]."""

    groups: int
    stride: Shape
    padding: Shape
    dilation: Shape
    size: Shape
    out: Shape


def _convolution(layer: Layer, shape: Shape, found: list[Layer]) -> Shape:
    weight, map_ = layer.numbers["weight"], _geometry(layer, shape)
    outputs, places = len(weight), math.prod(map_.out)
    if places < 1 or outputs * places * math.prod(shape) > MOST_ENTRIES:
        raise Unreadable(
            f"layer {layer.path}: its unrolled matrix is empty, or has more than {MOST_ENTRIES} "
            "entries, which this checker does not form."
        )
    bias = layer.numbers.get("bias", np.zeros(outputs))
    if bias.shape != (outputs,):
        raise Unreadable(f"layer {layer.path}: its bias has shape {bias.shape}.")
    numbers = {"weight": _unrolled(weight, map_, shape), "bias": bias.repeat(places)}
    found.append(Layer(layer.path, "Linear", numbers))
    return (outputs, *map_.out)


def _geometry(layer: Layer, shape: Shape) -> _Geometry:
    weight, dims = layer.numbers["weight"], int(layer.kind[4])
    groups = layer.fields.get("groups")
    if layer.fields.get("padding_mode") != "zeros":
        raise Unreadable(f"layer {layer.path}: this checker knows padding with zeros only.")
    if type(groups) is not int or groups < 1 or weight.ndim != dims + 2 or len(shape) != dims + 1:
        raise Unreadable(f"layer {layer.path}: {weight.shape} does not fit points of {shape}.")
    if weight.shape[0] % groups or shape[0] != weight.shape[1] * groups:
        raise Unreadable(f"layer {layer.path}: {weight.shape} does not fit points of {shape}.")
    stride = _sizes(layer, "stride", dims, 1)
    padding = _sizes(layer, "padding", dims, 0)
    dilation = _sizes(layer, "dilation", dims, 1)
    out = tuple(
        max(0, (n + 2 * p - d * (k - 1) - 1) // s + 1)
        for n, p, d, k, s in zip(
            shape[1:], padding, dilation, weight.shape[2:], stride, strict=True
        )
    )
    return _Geometry(groups, stride, padding, dilation, shape[1:], out)


def _unrolled(weight: Array, map_: _Geometry, shape: Shape) -> Array:
    """Rows (o, q), columns (i, position), both in row order."""
    outputs, inputs = len(weight), shape[0]
    matrix = np.zeros((outputs, math.prod(map_.out), inputs, math.prod(map_.size)))
    groups = [
        (slice(g * outputs // map_.groups, (g + 1) * outputs // map_.groups),
         slice(g * inputs // map_.groups, (g + 1) * inputs // map_.groups))
        for g in range(map_.groups)
    ]  # fmt: skip
    places = enumerate(itertools.product(*map(range, map_.out)))
    taps = list(itertools.product(*map(range, weight.shape[2:])))
    for (place, q), tap in itertools.product(places, taps):
        steps = zip(map_.stride, q, map_.dilation, tap, map_.padding, strict=True)
        met = [s * a + d * j - p for s, a, d, j, p in steps]
        if all(0 <= m < n for m, n in zip(met, map_.size, strict=True)):
            column = int(np.ravel_multi_index(met, map_.size))
            for rows, columns in groups:
                matrix[rows, place, columns, column] = weight[(rows, slice(None), *tap)]
    return matrix.reshape(outputs * math.prod(map_.out), -1)


def _sizes(layer: Layer, name: str, dims: int, least: int) -> Shape:
    value: Any = layer.fields.get(name)
    if not isinstance(value, list) or len(value) != dims:
        raise Unreadable(f"layer {layer.path}: {name}={str(value)[:40]!r} is not {dims} numbers.")
    if any(type(size) is not int or not least <= size <= MOST_ENTRIES for size in value):
        raise Unreadable(f"layer {layer.path}: {name}={value!r:.40} is out of range.")
    return tuple(value)


def _pairs(layer: Layer, shape: Shape) -> Layer:
    """Consecutive channels (2i, 2i + 1) become (min, max), at every place."""
    if shape[0] % 2:
        raise Unreadable(f"layer {layer.path}: MinMax needs an even number of channels.")
    places = np.arange(math.prod(shape)).reshape(shape[0] // 2, 2, -1)
    numbers = {"left": places[:, 0].ravel(), "right": places[:, 1].ravel()}
    return Layer(layer.path, "MinMax", numbers)


def _normalisation(layer: Layer, shape: Shape) -> Layer:
    try:
        numbers = {
            name: np.broadcast_to(values, shape).ravel() for name, values in layer.numbers.items()
        }
    except ValueError as error:
        raise Unreadable(f"layer {layer.path} does not fit points of shape {shape}.") from error
    return Layer(layer.path, "InputNormalisation", numbers)
