"""Parts of image sets by name, ``FOLDER:PART``: as tensors where they fit in memory."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from relaxcert.data.images.found import open_images
from relaxcert.data.images.sets import ImageSet
from relaxcert.data.landsat import Split

_IN_MEMORY = 2**31  # bytes as float32, above which images are decoded batch by batch


def image_part(data: str) -> tuple[Path, str] | None:
    """Folder and part of ``FOLDER:PART`` (or ``FOLDER``, whose part is train), else None."""
    folder, colon, part = data.rpartition(":")
    if colon and Path(folder).is_dir():
        return Path(folder), part
    whole = Path(data)
    if whole.is_dir() and not any(whole.glob("*.npz")):
        return whole, "train"
    return None


def training_images(folder: Path, part: str) -> ImageSet | Split:
    """The images as tensors where they are at most 2 GiB, else as they lie.

    Raises:
        DataError: no such part, or a damaged set.
    """
    images = open_images(folder, part)
    if len(images) * math.prod(images.shape) * 4 > _IN_MEMORY:
        return images
    return _tensors(images)


def image_tensors(folder: Path, part: str) -> Split:
    """All images of a part as tensors, (images, channels, height, width) in [0, 1].

    Raises:
        DataError: no such part, or a damaged set.
    """
    return _tensors(open_images(folder, part))


def _tensors(images: ImageSet) -> Split:
    batches = [batch for batch, _ in images.batches(1024)]
    inputs: Tensor = torch.cat(batches) if batches else torch.zeros(0, *images.shape)
    return Split(inputs, images.labels, images.class_names)
