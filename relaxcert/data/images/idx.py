"""IDX files, gzipped or not: MNIST's format, in which Fashion-MNIST is published.

Xiao, Rasul, Vollgraf, *Fashion-MNIST*, 2017 (MIT). Format: two zero bytes, the type (8: unsigned
byte), the number of dimensions, each dimension as a 32-bit big-endian number, the bytes.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np

from relaxcert.data.images.sets import ImageArray
from relaxcert.errors import DataError, InvalidInput

FASHION_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_MOST_BYTES = 2**31
_PREFIX = {"train": "train", "test": "t10k"}


def fashion_mnist(folder: str | Path, part: Literal["train", "test"]) -> ImageArray:
    """Fashion-MNIST, (1, 28, 28): 60,000 training and 10,000 test images.

    ``folder`` holds ``train-images-idx3-ubyte`` and the other three files, with or without .gz.

    Raises:
        DataError: a file that is missing, cut off or of another format.
    """
    if part not in _PREFIX:
        raise InvalidInput(f"part={part!r} must be one of train, test.")
    root = Path(folder)
    images = read_idx(_found(root, f"{_PREFIX[part]}-images-idx3-ubyte"), dimensions=3)
    label_file = _found(root, f"{_PREFIX[part]}-labels-idx1-ubyte")
    labels = read_idx(label_file, dimensions=1)
    if len(images) != len(labels):
        raise DataError(
            f"{label_file} holds {len(labels)} labels for {len(images)} images: the two files do "
            "not belong together."
        )
    if len(labels) and int(labels.max()) >= len(FASHION_NAMES):
        row = int((labels >= len(FASHION_NAMES)).argmax())
        raise DataError(f"{label_file}: label {labels[row]} of row {row} is not in 0 to 9.")
    return ImageArray(images[:, None], labels, FASHION_NAMES)


def read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """The bytes of an IDX file as an array; memory is taken for what the file really holds.

    Raises:
        DataError: not such a file, cut off, or longer than its header says.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as file:
                return _read(cast(BinaryIO, file), path, dimensions)
        with path.open("rb") as file:
            return _read(file, path, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error}): is it complete? Copy it again."
        ) from error


def _read(file: BinaryIO, path: Path, dimensions: int) -> np.ndarray:
    header = file.read(4 + 4 * dimensions)
    if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(
            f"{path} is not an IDX file of bytes with {dimensions} dimensions: it begins with "
            f"{header[:4].hex(' ')}."
        )
    shape = tuple(np.frombuffer(header[4:], dtype=">u4").tolist())
    wanted = math.prod(shape)
    if wanted > _MOST_BYTES or 0 in shape[1:]:
        raise DataError(f"{path} declares shape {shape}: no set of images has such a size.")
    # One byte more than declared shows a longer file; a gzipped one may hide any length.
    content = file.read(wanted + 1)
    if len(content) != wanted:
        less = "fewer" if len(content) < wanted else "more"
        raise DataError(
            f"{path} declares shape {shape}, but holds {less} bytes: it is cut off or damaged; "
            "copy it again."
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _found(root: Path, name: str) -> Path:
    for candidate in (root / name, root / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"{root} holds neither {name} nor {name}.gz: give the folder of the four files."
    )
