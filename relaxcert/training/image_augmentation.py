"""Augmentation of images as batched tensor operations, on the device where the batch lies.

The kinds are those of the paper's library (flip, crop and resize, saturation, contrast, small
rotation); the strengths are ours, stated here, since the paper names none.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from relaxcert.errors import InvalidInput

ZOOM = 0.8  # a crop keeps at least this share of each side
DEGREES = 10.0
COLOUR = 0.2  # saturation and contrast are multiplied by 1 - COLOUR .. 1 + COLOUR
_GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601


def augmented_images(images: Tensor, *, flip: bool = True) -> Tensor:
    """A random view of each image; (batch, channels, height, width) in [0, 1], shape unchanged.

    One affine map an image: mirrored with probability 1/2 (``flip``), rotated by at most 10
    degrees about a crop of 0.8 to 1 of the image, resized with bilinear interpolation; what lies
    outside repeats the border. Then saturation (of 3 channels) and contrast, each by 0.8 to 1.2,
    cut to [0, 1]. Random numbers come from torch's global generator, one draw a batch.

    Raises:
        InvalidInput: not a batch of images.
    """
    if images.dim() != 4:
        raise InvalidInput(
            f"augmentation 'images' got inputs of shape {tuple(images.shape)}, expected (batch, "
            "channels, height, width)."
        )
    grid = F.affine_grid(_views(images, flip=flip), list(images.shape), align_corners=False)
    turned = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return _coloured(turned).clamp(0.0, 1.0)


def _views(images: Tensor, *, flip: bool) -> Tensor:
    """Maps from output to input coordinates in [-1, 1]; (batch, 2, 3).

    With angle t, scale s, mirror m = +-1 and aspect r = height / width:

        [[m s cos t, -m s r sin t, shift], [s sin t / r, s cos t, shift]],   |shift| <= 1 - s
    """
    draw = torch.rand(5, len(images), device=images.device, dtype=images.dtype)
    angle = (2.0 * draw[0] - 1.0) * math.radians(DEGREES)
    scale = ZOOM + (1.0 - ZOOM) * draw[1]
    mirror = torch.where(draw[2] < 0.5, -1.0, 1.0) if flip else torch.ones_like(scale)
    shifts = (2.0 * draw[3:] - 1.0) * (1.0 - scale)
    ratio = images.shape[2] / images.shape[3]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = (mirror * cos, -mirror * ratio * sin, shifts[0], sin / ratio, cos, shifts[1])
    return torch.stack(rows, dim=1).reshape(-1, 2, 3)


def _coloured(images: Tensor) -> Tensor:
    """Move each image from, or towards, its grey version and its mean."""
    low, span = 1.0 - COLOUR, 2.0 * COLOUR
    factor = torch.rand(2, len(images), 1, 1, 1, device=images.device, dtype=images.dtype)
    if images.shape[1] == 3:
        weights = images.new_tensor(_GREY).reshape(1, 3, 1, 1)
        images = torch.lerp((images * weights).sum(1, keepdim=True), images, low + span * factor[0])
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, low + span * factor[1])
