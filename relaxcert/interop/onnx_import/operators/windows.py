"""What convolutions and pooling share: strides, padding, and the size of the result."""

from __future__ import annotations

import math
from dataclasses import dataclass

from relaxcert.interop.onnx_import.node import Node

_LARGEST = 2**20


@dataclass(frozen=True)
class Windows:
    """The places at which a window is put.

    Attributes:
        kernel, strides, dilations: one number a spatial dimension.
        before, after: padding.
        output: sizes of the result.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        """Whether both sides are padded alike."""
        return self.before == self.after


def windows_of(node: Node, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> Windows:
    """Read strides, dilations and padding; ``sizes`` are the spatial ones of the input."""
    count = len(sizes)
    strides = _numbers(node, "strides", [1] * count, 1)
    dilations = _numbers(node, "dilations", [1] * count, 1)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    before, after = _padding(node, sizes, strides, reach)
    ceil = node.attribute("ceil_mode", 0)
    output: list[int] = []
    for size, low, high, wide, stride in zip(sizes, before, after, reach, strides, strict=True):
        room = size + low + high - wide
        if room < 0 or wide > _LARGEST:
            raise node.error(
                f"({node.op}) has a window of {kernel} that is larger than its padded input {sizes}"
            )
        if ceil and room % stride:
            raise node.error(f"({node.op}) uses ceil_mode, which is not supported for {sizes}")
        output.append(room // stride + 1)
    as_tuples = map(tuple, (kernel, strides, dilations, before, after, output))
    return Windows(*as_tuples)


def _padding(
    node: Node, sizes: tuple[int, ...], strides: list[int], reach: list[int]
) -> tuple[list[int], list[int]]:
    automatic = node.attribute("auto_pad", "NOTSET")
    count = len(sizes)
    pads = _numbers(node, "pads", [0] * (2 * count), 0)
    if automatic == "NOTSET":
        return pads[:count], pads[count:]
    if automatic == "VALID":
        return [0] * count, [0] * count
    if automatic not in ("SAME_UPPER", "SAME_LOWER"):
        raise node.error(f"({node.op}) has auto_pad={automatic!r}")
    # As many windows as strides fit into the input.
    total = [
        max((math.ceil(size / stride) - 1) * stride + wide - size, 0)
        for size, stride, wide in zip(sizes, strides, reach, strict=True)
    ]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return (small, large) if automatic == "SAME_UPPER" else (large, small)


def _numbers(node: Node, name: str, default: list[int], least: int) -> list[int]:
    found: list[int] = node.attribute(name, default)
    if len(found) != len(default) or any(not least <= n <= _LARGEST for n in found):
        raise node.error(
            f"({node.op}) has {name}={found}, expected {len(default)} numbers of at least {least}"
        )
    return found
