"""BatchNormalization in evaluation mode."""

from __future__ import annotations

import math

import torch
from torch import nn

from relaxcert.interop.onnx_import.builder import Builder
from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.registry import operator
from relaxcert.interop.onnx_import.values import Activation

_KINDS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}


@operator("BatchNormalization")
def batch_normalisation(node: Node, build: Builder) -> Activation:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, for each channel."""
    inputs = node.activation(0)
    epsilon = node.attribute("epsilon", 9.999999747378752e-06)  # 1e-5 as a float32
    node.attribute("momentum", 0.9)
    if node.attribute("training_mode", 0) or node.outputs > 1:
        raise node.error("(BatchNormalization) is in training mode: export in eval mode")
    kind = _KINDS.get(len(inputs.shape))
    if kind is None:
        raise node.error(f"(BatchNormalization) gets shape {inputs.shape}, which is not supported")
    names = ("scale", "bias", "mean", "var")
    found = [node.weight(place, build.numpy_dtype) for place in range(1, 5)]
    for name, array in zip(names, found, strict=True):
        if array.shape != inputs.shape[1:2]:
            raise node.error(
                f"(BatchNormalization) has a {name} of shape {array.shape} for an input of shape "
                f"{inputs.shape}"
            )
    scale, bias, mean, variance = found
    if not math.isfinite(epsilon) or not (variance + epsilon > 0).all():
        raise node.error("(BatchNormalization) has a variance that is not positive")
    layer = kind(len(scale), eps=epsilon, device="meta")
    layer.weight, layer.bias = build.parameter(scale), build.parameter(bias)
    layer.running_mean, layer.running_var = build.tensor(mean), build.tensor(variance)
    layer.num_batches_tracked = torch.zeros((), dtype=torch.long)
    return build.layer(node, inputs, layer.eval())
