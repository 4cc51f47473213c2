"""Conv: nn.Conv1d and nn.Conv2d."""

from __future__ import annotations

from torch import nn

from relaxcert.interop.onnx_import.builder import Builder
from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.operators.windows import windows_of
from relaxcert.interop.onnx_import.registry import operator
from relaxcert.interop.onnx_import.values import Activation

_KINDS = {3: (nn.Conv1d, nn.ZeroPad1d), 4: (nn.Conv2d, nn.ZeroPad2d)}


@operator("Conv")
def convolution(node: Node, build: Builder) -> Activation:
    """A cross-correlation with zero padding, strides, dilations and groups."""
    inputs = node.activation(0)
    weight = node.weight(1, build.numpy_dtype)
    groups = node.attribute("group", 1)
    kinds = _KINDS.get(len(inputs.shape))
    if kinds is None or weight.ndim != len(inputs.shape) or 0 in weight.shape:
        raise node.error(
            f"(Conv) gets an input of shape {inputs.shape} and weights of shape {weight.shape}: "
            "one and two spatial dimensions are supported"
        )
    outputs, per_group, *kernel = weight.shape
    channels = inputs.shape[1]
    if groups < 1 or channels != per_group * groups or outputs % groups:
        raise node.error(
            f"(Conv) has weights of shape {weight.shape} in {groups} groups for {channels} channels"
        )
    if node.attribute("kernel_shape", list(kernel)) != kernel:
        raise node.error(f"(Conv) has a kernel_shape that its weights {weight.shape} contradict")
    windows = windows_of(node, inputs.shape[2:], tuple(kernel))
    padding = windows.before
    if not windows.symmetric:
        inputs = _padded(node, build, inputs, kinds[1], windows.before, windows.after)
        padding = (0,) * len(kernel)
    has_bias = node.optional(2) is not None
    layer = kinds[0](
        channels,
        outputs,
        tuple(kernel),  # pyright: ignore[reportArgumentType]
        stride=windows.strides,  # pyright: ignore[reportArgumentType]
        padding=padding,  # pyright: ignore[reportArgumentType]
        dilation=windows.dilations,  # pyright: ignore[reportArgumentType]
        groups=groups,
        bias=has_bias,
        device="meta",
    )
    layer.weight = build.parameter(weight)
    if has_bias:
        bias = node.weight(2, build.numpy_dtype)
        if bias.shape != (outputs,):
            raise node.error(f"(Conv) has a bias of shape {bias.shape} for {outputs} channels")
        layer.bias = build.parameter(bias)
    return build.layer(node, inputs, layer, (1, outputs, *windows.output))


def _padded(
    node: Node,
    build: Builder,
    inputs: Activation,
    kind: type[nn.Module],
    before: tuple[int, ...],
    after: tuple[int, ...],
) -> Activation:
    """Zeros around the input, where the two sides differ; torch counts from the last dimension."""
    sides: list[int] = []
    for low, high in zip(reversed(before), reversed(after), strict=True):
        sides += [low, high]
    sizes = (
        low + size + high for low, size, high in zip(before, inputs.shape[2:], after, strict=True)
    )
    return build.layer(node, inputs, kind(tuple(sides)), (*inputs.shape[:2], *sizes))
