"""nn.Conv1d, Conv2d, Conv3d: windows and one matrix product.

    y[o, q] = sum over (i, j) of W[o, (i, j)] x[i, place(q, j)]  +  b[o]

Gathering is exact. The product has m = inputs / groups * taps terms, and zeros of the padding add
nothing: w * 0 and s + 0 are exact. Whatever the order of the sum, fused or not, the error of one
output is at most

    gamma_(m+1) (sum |W| |x| + |b|) + (m + 1) eta,

which is the ``Rounding`` of the rule, n = m + 1, in the norm of the ball: ||(|W| |x|)|| is at most
the norm of the absolute map times ||x||. The Conv operator would not do, as engines may compute it
by Winograd's algorithm or by FFT, whose errors this does not bound.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from relaxcert.interop.onnx_export.layers.windows import Windows, gathered
from relaxcert.interop.onnx_export.registry import Site, emitter
from relaxcert.lipschitz.convolution_map import Convolution
from relaxcert.lipschitz.matrix import checked_matrix
from relaxcert.lipschitz.rules_convolution import ConvolutionRule


@emitter(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def convolution(layer: Any, site: Site) -> str:
    """Conv without a guarantee; with one (or circular padding): windows, MatMul, Add."""
    conv = Convolution.of(layer, ConvolutionRule(site.before).size_for(layer))
    if site.guarded or conv.circular:
        return _product(layer, conv, site)
    left, right = zip(*conv.padding, strict=True)
    constants = [site.write.constant(layer.weight, site.dtype)]
    if layer.bias is not None:
        constants.append(site.write.constant(layer.bias, site.dtype))
    return site.write.op(
        "Conv",
        site.name,
        *constants,
        kernel_shape=list(conv.kernel_size),
        strides=list(conv.stride),
        dilations=list(conv.dilation),
        pads=[*left, *right],
        group=conv.groups,
    )


def _product(layer: Any, conv: Convolution, site: Site) -> str:
    """W (groups, outputs / groups, m) times windows (batch, groups, m, positions)."""
    write, groups = site.write, conv.groups
    windows = gathered(site, Windows.of(conv), 0.0)
    outputs, terms = conv.weight.shape[0], conv.weight[0].numel()
    shape = (groups, outputs // groups, terms)
    # Sizes are given, not inferred: -1 has no answer for an empty batch.
    positions = math.prod(site.after[1:])
    columns = write.reshape(windows, groups, terms, positions)
    product = write.op("MatMul", write.constant(conv.weight.reshape(shape), site.dtype), columns)
    if layer.bias is not None:
        bias = checked_matrix(layer.bias, "bias of a convolution")
        added = write.constant(bias.view(groups, outputs // groups, 1), site.dtype)
        product = write.op("Add", product, added)
    return write.reshape(product, *site.after)
