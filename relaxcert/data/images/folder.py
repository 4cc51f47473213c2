"""Any folder of images with one folder a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relaxcert.data.images.decoding import SUFFIXES, size_of
from relaxcert.data.images.sets import ImageFiles
from relaxcert.errors import DataError


def image_folder(
    folder: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    shape: Sequence[int] | None = None,
) -> ImageFiles:
    """Images ``folder/CLASS/*.jpg`` (.jpeg, .png, .bmp), decoded when asked for.

    Args:
        folder: the root.
        class_names: the folders in the order of the labels; default: all, in alphabetical order.
        shape: (channels, height, width); default: RGB of the first image's size.

    Raises:
        DataError: no folders, an empty or a missing one.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder.")
    names = tuple(class_names) if class_names is not None else _folders(root)
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = images_in(root / name)
        files += found
        labels += [label] * len(found)
    if shape is None:
        shape = (3, *size_of(files[0]))
    return ImageFiles(files, labels, names, shape)


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, in the order of their numbers, then of their names.

    Raises:
        DataError: missing or empty.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder, but its class is expected.")
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    if not found:
        raise DataError(f"{folder} holds no images ({', '.join(SUFFIXES)}).")
    return sorted(found, key=lambda path: (_number(path), path.name))


def _folders(root: Path) -> tuple[str, ...]:
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    if len(names) < 2:
        raise DataError(
            f"{root} holds {len(names)} folders: expected one folder a class, two at least."
        )
    return tuple(names)


def _number(path: Path) -> int:
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() and len(digits) < 12 else -1
