"""Maximum and average pooling.

Maxima are exact in every form. An average of k numbers runs in float64: k - 1 additions and one
division, so that each result is off by at most

    gamma_k (sum |x|) / divisor + eta,

in every norm at most gamma_k || |T| || ||x|| + eta ||1||, where the rule has n = k + 3 in place of
k; then it is rounded once. Zeros of the padding add nothing.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from relaxcert.interop.onnx_export.layers.windows import Ints, Windows, gathered
from relaxcert.interop.onnx_export.registry import Site, emitter
from relaxcert.lipschitz.rules_convolution import AdaptiveAveragePoolRule, AveragePoolRule
from relaxcert.lipschitz.rules_pooling import AdaptiveMaxPoolRule, MaxPoolRule


@emitter(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
def max_pool(layer: Any, site: Site) -> str:
    """The largest number of each window, exact."""
    MaxPoolRule().verified(layer, "l2")  # refuses indices
    dims = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}[type(layer)]
    kernel, stride, dilation, padding = (
        (value,) * dims if isinstance(value, int) else tuple(value)
        for value in (layer.kernel_size, layer.stride, layer.dilation, layer.padding)
    )
    # In ceil mode ONNX and torch disagree about windows that begin in the padding.
    if site.guarded or layer.ceil_mode or len(site.before) != dims + 1:
        return _maxima(site, Windows(kernel, stride, dilation, padding))
    return site.write.op(
        "MaxPool",
        site.name,
        kernel_shape=list(kernel),
        strides=list(stride),
        dilations=list(dilation),
        pads=[*padding, *padding],
    )


@emitter(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
def adaptive_max_pool(layer: Any, site: Site) -> str:
    """The largest number of each channel, exact."""
    AdaptiveMaxPoolRule().verified(layer, "l2")  # refuses other output sizes
    dims = {nn.AdaptiveMaxPool1d: 1, nn.AdaptiveMaxPool2d: 2, nn.AdaptiveMaxPool3d: 3}[type(layer)]
    ones = (1,) * dims
    return _maxima(site, Windows(site.before[-dims:], ones, ones, (0,) * dims))


@emitter(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
def average_pool(layer: Any, site: Site) -> str:
    """The sum of each window over its size, or over a divisor of the layer's own."""
    rule = AveragePoolRule(site.before)
    windows = Windows.of(rule.map_of(layer))
    divisor = rule.windows_of(layer)[3]
    if site.guarded or divisor != math.prod(windows.kernel):
        return _averages(site, windows, divisor)
    return _plain_average(site, windows)


@emitter(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
def adaptive_average_pool(layer: Any, site: Site) -> str:
    """The average of each channel, or of windows that divide it."""
    windows = Windows.of(AdaptiveAveragePoolRule(site.before).map_of(layer))
    if site.guarded:
        return _averages(site, windows, math.prod(windows.kernel))
    if set(site.after[1:]) == {1}:
        return site.write.op("GlobalAveragePool", site.name)
    return _plain_average(site, windows)


def _maxima(site: Site, windows: Windows) -> str:
    largest = site.write.reduce("ReduceMax", gathered(site, windows, -math.inf), 2)
    return site.write.reshape(largest, *site.after)


def _averages(site: Site, windows: Windows, divisor: int) -> str:
    write = site.write
    taken = gathered(site, windows, 0.0)
    wide = taken if site.working == site.dtype else write.cast(taken, site.working)
    total = write.reduce("ReduceSum", wide, 2)
    average = write.op("Div", total, write.constant(float(divisor), site.working))
    return write.reshape(site.narrow(average), *site.after)


def _plain_average(site: Site, windows: Windows) -> str:
    pads: Ints = (*windows.left, *windows.left)
    return site.write.op(
        "AveragePool",
        site.name,
        kernel_shape=list(windows.kernel),
        strides=list(windows.stride),
        pads=list(pads),
        count_include_pad=1,
    )
