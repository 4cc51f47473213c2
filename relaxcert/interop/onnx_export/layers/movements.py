"""Layers that only move numbers around: exact in every form."""

from __future__ import annotations

import torch
from torch import nn

from relaxcert.interop.onnx_export.registry import Site, emitter
from relaxcert.nn.rearrange import Rearrange
from relaxcert.nn.shapes import InvertibleDownsampling, Part, Permute, Reshape


@emitter(nn.Flatten, nn.Unflatten, Reshape)
def reshape(layer: nn.Module, site: Site) -> str:
    """The same numbers in the same order."""
    if site.before == site.after:
        return site.name
    if len(site.after) == 1:
        return site.write.op("Flatten", site.name, axis=1)
    return site.write.reshape(site.name, *site.after)


@emitter(Permute)
def permute(layer: Permute, site: Site) -> str:
    """Dimensions in another order."""
    return site.write.op("Transpose", site.name, perm=list(layer.order))


@emitter(InvertibleDownsampling)
def downsampling(layer: InvertibleDownsampling, site: Site) -> str:
    """Blocks of 2 x 2 pixels become channels, in the order that ONNX has too."""
    return site.write.op("SpaceToDepth", site.name, blocksize=2)


@emitter(Rearrange, Part, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle)
def gather(layer: nn.Module, site: Site) -> str:
    """Any movement: the layer itself is asked where each number comes from."""
    count = torch.Size(site.before).numel()
    with torch.no_grad():
        # float64 holds every place exactly, and every layer takes it.
        places = layer(torch.arange(count, dtype=torch.float64).view(1, *site.before))
    flat = site.write.reshape(site.name, count)
    chosen = site.write.constant(places.flatten().to(torch.int64))
    return site.write.reshape(site.write.op("Gather", flat, chosen, axis=1), *site.after)
