"""CIFAR-100, the binary version (preferred) or the python version.

Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009. Binary record: coarse
label, fine label, 1,024 bytes each of red, green and blue, row by row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from relaxcert.data.images.pickled import read_plain_pickle
from relaxcert.data.images.sets import ImageArray
from relaxcert.errors import DataError, InvalidInput
from relaxcert.spec.catalogue import load_document

_RECORD = 2 + 3072
_SHAPE = (3, 32, 32)
_MOST_BYTES = 2**30
# The coarse class of each fine class, as the set's own files have it.
COARSE_OF_FINE: tuple[int, ...] = (
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11),
    *(6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5),
    *(5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17),
    *(10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13),
    *(16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
)


def cifar100(folder: str | Path, part: Literal["train", "test"]) -> ImageArray:
    """CIFAR-100 with fine labels, (3, 32, 32): 50,000 training and 10,000 test images.

    ``folder`` is ``cifar-100-binary`` (``train.bin``, ``test.bin``; memory-mapped),
    ``cifar-100-python`` (``train``, ``test``; read without running anything), or their parent.

    Raises:
        DataError: missing or cut-off files, labels that are none, fine and coarse that disagree.
    """
    if part not in ("train", "test"):
        raise InvalidInput(f"part={part!r} must be one of train, test.")
    root = Path(folder)
    for place in (root, root / "cifar-100-binary"):
        if (place / f"{part}.bin").is_file():
            return _binary(place / f"{part}.bin")
    for place in (root, root / "cifar-100-python"):
        if (place / part).is_file():
            return _python(place / part)
    raise DataError(
        f"{root} holds no CIFAR-100: expected {part}.bin (cifar-100-binary) or {part} "
        "(cifar-100-python) in it or in the folder of that name."
    )


def class_names() -> tuple[str, ...]:
    """The fine classes in the order of their labels."""
    return load_document("cifar100/superclasses").class_names or ()


def _binary(path: Path) -> ImageArray:
    size = path.stat().st_size
    if size == 0 or size % _RECORD:
        raise DataError(
            f"{path} holds {size} bytes, which is no whole number of records of {_RECORD}: it was "
            "cut off, or is another file (CIFAR-10 has records of 3,073); copy it again."
        )
    records = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, _RECORD)
    coarse, fine = np.array(records[:, 0]), np.array(records[:, 1])
    _check_labels(path, coarse, fine)
    _check_names(path.parent / "fine_label_names.txt")
    return ImageArray(records[:, 2:].reshape(-1, *_SHAPE), fine, class_names())


def _python(path: Path) -> ImageArray:
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"{path} is larger than {_MOST_BYTES >> 20} MiB: it is not CIFAR-100.")
    content = read_plain_pickle(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a table with data and fine_labels.")
    fields: dict[object, object] = {
        key.decode("latin-1") if isinstance(key, bytes) else key: value  # pyright: ignore[reportUnknownVariableType]
        for key, value in content.items()  # pyright: ignore[reportUnknownVariableType]
    }
    images = fields.get("data")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2:
        raise DataError(f"{path}: field data is missing, or no table of bytes.")
    fine = _whole_numbers(path, "fine_labels", fields.get("fine_labels"))
    coarse = _whole_numbers(path, "coarse_labels", fields.get("coarse_labels"))
    if images.shape[1] != 3072 or not len(images) == len(fine) == len(coarse):
        raise DataError(
            f"{path}: field data has shape {images.shape} for {len(fine)} fine and {len(coarse)} "
            "coarse labels; expected 3,072 bytes an image, one of each label an image."
        )
    _check_labels(path, coarse, fine)
    return ImageArray(images.reshape(-1, *_SHAPE), fine, class_names())


def _whole_numbers(path: Path, field: str, values: object) -> np.ndarray:
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values):  # pyright: ignore[reportUnknownVariableType]
        raise DataError(f"{path}: field {field} is missing, or no list of whole numbers.")
    return np.array(values, dtype=np.int64)


def _check_labels(path: Path, coarse: np.ndarray, fine: np.ndarray) -> None:
    if (fine >= 100).any() or (fine < 0).any():
        row = int(((fine >= 100) | (fine < 0)).argmax())
        raise DataError(f"{path}: record {row} has fine label {fine[row]}, expected 0 to 99.")
    wrong = coarse != np.array(COARSE_OF_FINE)[fine]
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}: record {row} has coarse label {coarse[row]} beside fine label {fine[row]}, "
            f"whose superclass is {COARSE_OF_FINE[fine[row]]}: the file is damaged or of another "
            "set."
        )


def _check_names(path: Path) -> None:
    if not path.is_file():
        return
    found = tuple(path.read_text("utf-8", errors="replace").split())
    if found != class_names():
        raise DataError(
            f"{path} does not list the 100 fine classes of CIFAR-100 in their order: the folder "
            "holds another set, or the file is damaged."
        )
