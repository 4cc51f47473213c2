"""Labelled images as map-style Datasets: bytes in an array (memory-mapped), or files on disk."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from relaxcert.data.images.decoding import decoded
from relaxcert.errors import DataError


class ImageSet(Dataset[tuple[Tensor, int]]):
    """Labelled images of one shape.

    One item is ``(image, label)``: float32 (channels, height, width), the bytes / 255, without mean
    and standard deviation (the unit in which eps of the paper's tables is stated), and its class.

    Attributes:
        labels: (images,), int64.
        class_names: one name a class, in the order of the labels.
        shape: (channels, height, width).
    """

    def __init__(
        self, labels: Sequence[int] | np.ndarray, class_names: Sequence[str], shape: Sequence[int]
    ) -> None:
        self.labels = torch.as_tensor(np.asarray(labels, dtype=np.int64))
        self.class_names = tuple(class_names)
        channels, height, width = shape
        self.shape = (int(channels), int(height), int(width))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        place = range(len(self))[index]
        return torch.from_numpy(self.bytes_of(place)).float() / 255.0, int(self.labels[place])

    @abstractmethod
    def bytes_of(self, index: int) -> np.ndarray:
        """The image as bytes, (channels, height, width) uint8, a copy."""

    def subset(self, rows: Sequence[int] | np.ndarray) -> ImageSubset:
        """The images of these rows, in this order."""
        return ImageSubset(self, np.asarray(rows, dtype=np.int64))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, so many at a time: (batch, C, H, W) in [0, 1] and (batch,)."""
        for start in range(0, len(self), size):
            rows = range(start, min(start + size, len(self)))
            images = torch.from_numpy(np.stack([self.bytes_of(row) for row in rows]))
            yield images.float() / 255.0, self.labels[start : start + size]


class ImageArray(ImageSet):
    """Images that lie in one array of bytes, in memory or memory-mapped.

    ``images`` is (images, channels, height, width) uint8.
    """

    def __init__(
        self, images: np.ndarray, labels: Sequence[int] | np.ndarray, class_names: Sequence[str]
    ) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels):
            raise DataError(
                f"images has type {images.dtype} and shape {images.shape} for {len(labels)} "
                "labels; expected bytes (images, channels, height, width), one label an image."
            )
        super().__init__(labels, class_names, images.shape[1:])
        self.images = images

    def bytes_of(self, index: int) -> np.ndarray:
        """A copy of one image."""
        return np.array(self.images[index])


class ImageFiles(ImageSet):
    """Images that lie in files of their own, decoded when asked for: memory stays bounded.

    Args:
        files: one a label.
        labels: class of each.
        class_names: one a class.
        shape: (channels, height, width) that every file must have; 3 channels: grey images are
            converted to RGB.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
        shape: Sequence[int],
    ) -> None:
        super().__init__(labels, class_names, shape)
        if len(files) != len(self.labels):
            raise DataError(f"{len(files)} files for {len(self.labels)} labels: one label a file.")
        self.files = tuple(files)

    def bytes_of(self, index: int) -> np.ndarray:
        """Decode one file.

        Raises:
            DataError: not an image of the kind that its name says, or of another size.
        """
        return decoded(self.files[index], self.shape)


class ImageSubset(ImageSet):
    """Some images of another set."""

    def __init__(self, whole: ImageSet, rows: np.ndarray) -> None:
        super().__init__(whole.labels.numpy()[rows], whole.class_names, whole.shape)
        self.whole, self.rows = whole, rows

    def bytes_of(self, index: int) -> np.ndarray:
        """One image of the other set."""
        return self.whole.bytes_of(int(self.rows[index]))
