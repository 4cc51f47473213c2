"""Decoding of image files, with nothing taken on trust: kind, size, then pixels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relaxcert.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from PIL import Image

# What a file of each suffix must be.
_KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP"}
_MOST_BYTES = 64 * 2**20
_MOST_PIXELS = 4096 * 4096

SUFFIXES = tuple(_KINDS)


def decoded(path: Path, shape: Sequence[int] | None = None) -> np.ndarray:
    """The pixels of an image file as (channels, height, width) uint8.

    ``shape`` is what it must have: 3 channels convert grey images to RGB, 1 channel takes grey
    ones only. Without it: RGB of the file's own size. The size in the header is checked before
    any pixel is decoded.

    Raises:
        DataError: missing, of another kind than its name says, too large, cut off, another size.
        MissingExtra: pillow is not installed.
    """
    images = _pillow()
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: more than {_MOST_BYTES >> 20} MiB, too large for an image.")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with images.open(path) as image:
                _check_header(path, image, shape)
                mode = "L" if shape is not None and shape[0] == 1 else "RGB"
                pixels = np.asarray(image.convert(mode), dtype=np.uint8)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file.") from error
    except (OSError, SyntaxError, ValueError, Warning, images.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} cannot be decoded ({error}): it is cut off or damaged; copy it again."
        ) from error
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) by the header of an image file, without decoding it.

    Raises:
        DataError: not an image.
    """
    images = _pillow()
    try:
        with images.open(path) as image:
            _check_header(path, image, None)
            return image.height, image.width
    except (OSError, SyntaxError, ValueError, images.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not an image ({error}): remove or mend it.") from error


def _check_header(path: Path, image: Image.Image, shape: Sequence[int] | None) -> None:
    expected = _KINDS.get(path.suffix.lower())
    if image.format != expected:
        raise DataError(
            f"{path} is a {image.format} file, but its name says {expected}: rename or convert it."
        )
    if image.width * image.height > _MOST_PIXELS:
        raise DataError(
            f"{path} declares {image.width} x {image.height} pixels, more than {_MOST_PIXELS}: it "
            "is no image of such a set; remove it."
        )
    if shape is not None and (image.height, image.width) != tuple(shape[1:]):
        raise DataError(
            f"{path} is {image.height} x {image.width} pixels, expected {shape[1]} x {shape[2]}: "
            "the set's own files all have that size; copy it again, or resize it."
        )
    if shape is not None and shape[0] == 1 and image.mode not in ("1", "L"):
        raise DataError(f"{path} has mode {image.mode}, expected a grey image (mode L).")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra(
            "image files are decoded by pillow, which is not installed: pip install "
            "'relaxcert[data]'."
        ) from error
    return Image
