"""Decoding of image files, with nothing taken on trust: kind, size, then pixels."""

from __future__ import annotations

import io
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
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file.") from error
    grey = shape is not None and shape[0] == 1
    return _pixels(path, str(path), size, _kind_of(path), shape, grey=grey)


def decoded_bytes(content: bytes, name: str, shape: Sequence[int] | None = None) -> np.ndarray:
    """The same of a JPEG, PNG or BMP in memory; without ``shape`` a grey image stays grey.

    ``name`` stands for it in errors, which are those of :func:`decoded`.
    """
    grey = None if shape is None else shape[0] == 1
    return _pixels(io.BytesIO(content), name, len(content), None, shape, grey=grey)


def _pixels(
    source: Path | io.BytesIO,
    name: str,
    size: int,
    kind: str | None,
    shape: Sequence[int] | None,
    *,
    grey: bool | None,
) -> np.ndarray:
    """Check, then decode; ``grey`` is None for an image's own colours."""
    images = _pillow()
    if size > _MOST_BYTES:
        raise DataError(f"{name}: more than {_MOST_BYTES >> 20} MiB, too large for an image.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with images.open(source) as image:
                _check_header(name, kind, image, shape)
                one = image.mode in ("1", "L") if grey is None else grey
                pixels = np.asarray(image.convert("L" if one else "RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Warning, images.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{name} cannot be decoded ({error}): it is cut off or damaged; copy it again."
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
            _check_header(str(path), _kind_of(path), image, None)
            return image.height, image.width
    except (OSError, SyntaxError, ValueError, images.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not an image ({error}): remove or mend it.") from error


def _kind_of(path: Path) -> str:
    """What a file must be by its name; "unknown" is no kind."""
    return _KINDS.get(path.suffix.lower(), "unknown")


def _check_header(
    name: str, kind: str | None, image: Image.Image, shape: Sequence[int] | None
) -> None:
    if kind is None and image.format not in _KINDS.values():
        known = ", ".join(dict.fromkeys(_KINDS.values()))
        raise DataError(f"{name} is a {image.format} file, expected one of {known}: convert it.")
    if kind is not None and image.format != kind:
        raise DataError(
            f"{name} is a {image.format} file, but its name says {kind}: rename or convert it."
        )
    if image.width * image.height > _MOST_PIXELS:
        raise DataError(
            f"{name} declares {image.width} x {image.height} pixels, more than {_MOST_PIXELS}: it "
            "is no image of such a set; remove it."
        )
    if shape is not None and (image.height, image.width) != tuple(shape[1:]):
        raise DataError(
            f"{name} is {image.height} x {image.width} pixels, expected {shape[1]} x {shape[2]}: "
            "the set's own files all have that size; copy it again, or resize it."
        )
    if shape is not None and shape[0] == 1 and image.mode not in ("1", "L"):
        raise DataError(f"{name} has mode {image.mode}, expected a grey image (mode L).")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra(
            "image files are decoded by pillow, which is not installed: pip install "
            "'relaxcert[data]'."
        ) from error
    return Image
