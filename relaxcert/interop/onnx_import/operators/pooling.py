"""AveragePool, MaxPool, GlobalAveragePool."""

from __future__ import annotations

from torch import nn

from relaxcert.interop.onnx_import.builder import Builder
from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.operators.windows import Windows, windows_of
from relaxcert.interop.onnx_import.registry import operator
from relaxcert.interop.onnx_import.values import Activation


@operator("AveragePool")
def average_pool(node: Node, build: Builder) -> Activation:
    """The mean of each window."""
    inputs, windows = _image_and_windows(node)
    counts_padding = bool(node.attribute("count_include_pad", 0)) or not any(windows.before)
    if any(d != 1 for d in windows.dilations):
        raise node.error("(AveragePool) has dilations, which are not supported")
    layer = nn.AvgPool2d(
        windows.kernel,  # pyright: ignore[reportArgumentType]
        windows.strides,  # pyright: ignore[reportArgumentType]
        windows.before,  # pyright: ignore[reportArgumentType]
        count_include_pad=counts_padding,
    )
    return build.layer(node, inputs, layer, (*inputs.shape[:2], *windows.output))


@operator("MaxPool")
def max_pool(node: Node, build: Builder) -> Activation:
    """The largest number of each window."""
    inputs, windows = _image_and_windows(node)
    if node.attribute("storage_order", 0) or node.outputs > 1:
        raise node.error("(MaxPool) gives indices, which are not supported")
    layer = nn.MaxPool2d(
        windows.kernel,  # pyright: ignore[reportArgumentType]
        windows.strides,  # pyright: ignore[reportArgumentType]
        windows.before,  # pyright: ignore[reportArgumentType]
        windows.dilations,  # pyright: ignore[reportArgumentType]
    )
    return build.layer(node, inputs, layer, (*inputs.shape[:2], *windows.output))


@operator("GlobalAveragePool")
def global_average_pool(node: Node, build: Builder) -> Activation:
    """The mean of each channel."""
    inputs = node.activation(0)
    if len(inputs.shape) != 4:
        raise node.error(f"(GlobalAveragePool) gets shape {inputs.shape}, expected an image")
    return build.layer(node, inputs, nn.AdaptiveAvgPool2d(1), (*inputs.shape[:2], 1, 1))


def _image_and_windows(node: Node) -> tuple[Activation, Windows]:
    inputs = node.activation(0)
    kernel = node.attribute("kernel_shape", list)
    if len(inputs.shape) != 4 or len(kernel) != 2 or min(kernel) < 1:
        raise node.error(
            f"({node.op}) gets shape {inputs.shape} and a kernel_shape of {kernel}, expected an "
            "image and two numbers"
        )
    windows = windows_of(node, inputs.shape[2:], tuple(kernel))
    if not windows.symmetric:
        raise node.error(f"({node.op}) pads its two sides differently, which is not supported")
    # torch's own condition; a larger padding makes windows of nothing.
    if any(2 * pad > size for pad, size in zip(windows.before, kernel, strict=True)):
        raise node.error(f"({node.op}) pads more than half of its window {kernel}")
    return inputs, windows
