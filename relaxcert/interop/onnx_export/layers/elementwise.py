"""Activations, pairs, scales and shifts."""

from __future__ import annotations

import torch
from torch import nn

from relaxcert.interop.onnx_export.registry import Site, emitter
from relaxcert.nn.elementwise import Abs, Diagonal
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.nn.shapes import GroupSort, Scale


@emitter(nn.ReLU)
def relu(layer: nn.ReLU, site: Site) -> str:
    """max(x, 0), exact."""
    return site.write.op("Relu", site.name)


@emitter(Abs)
def absolute(layer: Abs, site: Site) -> str:
    """|x|, exact."""
    return site.write.op("Abs", site.name)


@emitter(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
def identity(layer: nn.Module, site: Site) -> str:
    """x: dropout is off outside training."""
    return site.name


@emitter(nn.LeakyReLU)
def leaky_relu(layer: nn.LeakyReLU, site: Site) -> str:
    """max(x, slope x) for slopes up to 1."""
    if not site.guarded:
        return site.write.op("LeakyRelu", site.name, alpha=layer.negative_slope)
    # The attribute of LeakyRelu is a float32, which would be another slope.
    wide = site.wide()
    scaled = site.write.op("Mul", wide, site.write.double(layer.negative_slope))
    negative = site.write.op("Less", wide, site.write.double(0.0))
    return site.narrow(site.write.op("Where", negative, scaled, wide))


@emitter(nn.PReLU)
def prelu(layer: nn.PReLU, site: Site) -> str:
    """x or slope x, with one slope or one a channel."""
    slopes = layer.weight.detach().view(-1, *[1] * (len(site.before) - 1))
    wide = site.wide()
    scaled = site.write.op("Mul", wide, site.write.constant(slopes, site.working))
    negative = site.write.op("Less", wide, site.write.constant(0.0, site.working))
    return site.narrow(site.write.op("Where", negative, scaled, wide))


@emitter(MinMax)
def minmax(layer: MinMax, site: Site) -> str:
    """(min, max) of neighbours in dimension 1, exact; in a form that the import reads back."""
    write = site.write
    features, *rest = site.before
    pairs = write.reshape(site.name, features // 2, 2, *rest)
    left = write.slice(pairs, 2, 0, 1)
    right = write.slice(pairs, 2, 1, 2)
    both = write.op("Min", left, right), write.op("Max", left, right)
    return write.reshape(write.op("Concat", *both, axis=2), *site.before)


@emitter(GroupSort)
def group_sort(layer: GroupSort, site: Site) -> str:
    """Each group in ascending order, exact."""
    write = site.write
    channels, *rest = site.before
    groups = write.reshape(site.name, channels // layer.size, layer.size, *rest)
    ordered = write.ops(
        "TopK", groups, write.whole(layer.size), count=2, axis=2, largest=0, sorted=1
    )
    return write.reshape(ordered[0], *site.before)


@emitter(InputNormalisation)
def normalisation(layer: InputNormalisation, site: Site) -> str:
    """(x - mean) / std."""
    constant = site.write.constant
    shifted = site.write.op("Sub", site.wide(), constant(layer.mean, site.working))
    return site.narrow(site.write.op("Div", shifted, constant(layer.std, site.working)))


@emitter(Scale)
def scale(layer: Scale, site: Site) -> str:
    """factor x."""
    factor = site.write.constant(torch.tensor(layer.factor, dtype=torch.float64), site.working)
    return site.narrow(site.write.op("Mul", site.wide(), factor))


@emitter(Diagonal)
def diagonal(layer: Diagonal, site: Site) -> str:
    """factors x."""
    factors = site.write.constant(layer.factors, site.working)
    return site.narrow(site.write.op("Mul", site.wide(), factors))
