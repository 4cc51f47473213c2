"""Windows of an image as one more dimension: what convolutions and pooling have in common.

Every window is gathered by its places, which are constants of the file. Copies are exact, so what
rounds afterwards is one matrix product or one sum, in a form that no engine computes by Winograd's
algorithm or by FFT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxcert.interop.onnx_export.registry import Site
from relaxcert.lipschitz.convolution_map import Convolution

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """In every dimension, tap j of output q reads position stride q + dilation j - left.

    Outside the input it reads the padding, or goes round where ``circular``.
    """

    kernel: Ints
    stride: Ints
    dilation: Ints
    left: Ints
    circular: bool = False

    @classmethod
    def of(cls, conv: Convolution) -> Windows:
        """The windows of a convolution (not of a transposed one)."""
        left = tuple(pads[0] for pads in conv.padding)
        return cls(conv.kernel_size, conv.stride, conv.dilation, left, conv.circular)

    def places(self, size: Ints, outputs: Ints) -> Tensor:
        """(taps, positions) int64: 1 + the place in the flattened input, 0 for padding."""
        dims = len(size)
        flat, inside = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.bool)
        for dim in range(dims):
            first = torch.arange(outputs[dim]) * self.stride[dim] - self.left[dim]
            at = torch.arange(self.kernel[dim])[:, None] * self.dilation[dim] + first
            if self.circular:
                at = at % size[dim]
            shape = [1] * (2 * dims)
            shape[dim], shape[dims + dim] = at.shape
            at = at.view(shape)
            inside = inside & (at >= 0) & (at < size[dim])
            flat = flat * size[dim] + at
        return torch.where(inside, flat + 1, 0).reshape(math.prod(self.kernel), -1)


def gathered(site: Site, windows: Windows, padding: float) -> str:
    """(batch, channels, taps, positions), in the network's own type; exact."""
    write, dims = site.write, len(windows.kernel)
    size, outputs = site.before[-dims:], site.after[-dims:]
    channels = math.prod(site.before[:-dims])
    flat = write.reshape(site.name, channels, math.prod(size))
    places = windows.places(size, outputs)
    if bool((places > 0).all()):
        return write.op("Gather", flat, write.constant(places - 1), axis=2)
    filling = write.constant(torch.tensor(padding, dtype=torch.float64), site.dtype)
    padded = write.op("Pad", flat, write.whole(0, 0, 1, 0, 0, 0), filling)
    return write.op("Gather", padded, write.constant(places), axis=2)
