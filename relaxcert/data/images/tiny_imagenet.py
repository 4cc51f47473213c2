"""Tiny-ImageNet: 200 classes, 500 training and 50 validation images each, 64 x 64 JPEG.

The official test labels are not published, so the validation part is what results are stated on.
Classes are in the order of the sorted WordNet identifiers; some images are grey and become RGB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from relaxcert.data.images.folder import images_in
from relaxcert.data.images.sets import ImageFiles
from relaxcert.errors import DataError, InvalidInput

SHAPE = (3, 64, 64)


def tiny_imagenet(folder: str | Path, part: Literal["train", "val"]) -> ImageFiles:
    """Tiny-ImageNet, (3, 64, 64), decoded when asked for.

    ``folder`` is ``tiny-imagenet-200`` or its parent.

    Raises:
        DataError: missing files, an annotation that is none (with its line).
    """
    if part not in ("train", "val"):
        raise InvalidInput(f"part={part!r} must be one of train, val.")
    root = root_of(Path(folder))
    identifiers = sorted(_lines(root / "wnids.txt"))
    if len(set(identifiers)) != len(identifiers) or not identifiers:
        raise DataError(f"{root / 'wnids.txt'} is empty or lists an identifier twice.")
    names = _names(root, identifiers)
    files, labels = (
        _training(root, identifiers) if part == "train" else _validation(root, identifiers)
    )
    return ImageFiles(files, labels, names, SHAPE)


def root_of(folder: Path) -> Path:
    """The folder with ``wnids.txt``.

    Raises:
        DataError: neither the folder nor ``tiny-imagenet-200`` inside it.
    """
    for place in (folder, folder / "tiny-imagenet-200"):
        if (place / "wnids.txt").is_file():
            return place
    raise DataError(f"{folder} holds no Tiny-ImageNet: wnids.txt is missing.")


def _training(root: Path, identifiers: list[str]) -> tuple[list[Path], list[int]]:
    files: list[Path] = []
    labels: list[int] = []
    for label, identifier in enumerate(identifiers):
        found = images_in(root / "train" / identifier / "images")
        files += found
        labels += [label] * len(found)
    return files, labels


def _validation(root: Path, identifiers: list[str]) -> tuple[list[Path], list[int]]:
    """Read ``val_annotations.txt``: file, identifier and a box of four numbers, by tabs."""
    source = root / "val" / "val_annotations.txt"
    place = {identifier: label for label, identifier in enumerate(identifiers)}
    files: list[Path] = []
    labels: list[int] = []
    for number, line in enumerate(_lines(source), start=1):
        fields = line.split("\t")
        if len(fields) != 6 or not all(box.strip().isdecimal() for box in fields[2:]):
            raise DataError(
                f"{source}, line {number}: expected a file, a class and 4 numbers between tabs, "
                f"found {line[:60]!r}."
            )
        name, identifier = fields[:2]
        if identifier not in place:
            raise DataError(f"{source}, line {number}: class {identifier!r} is not in wnids.txt.")
        if Path(name).name != name:
            raise DataError(f"{source}, line {number}: {name!r} is not the name of a file.")
        files.append(root / "val" / "images" / name)
        labels.append(place[identifier])
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing} is listed in {source}, but is missing.")
    return files, labels


def _names(root: Path, identifiers: list[str]) -> tuple[str, ...]:
    """The first word of each class, from ``words.txt`` where present; unique by the identifier."""
    if not (root / "words.txt").is_file():
        return tuple(identifiers)
    words: dict[str, str] = {}
    for line in _lines(root / "words.txt"):
        identifier, _, text = line.partition("\t")
        words[identifier] = text.split(",")[0].strip()
    found = [words.get(identifier) or identifier for identifier in identifiers]
    return tuple(
        name if found.count(name) == 1 else f"{name} ({identifier})"
        for name, identifier in zip(found, identifiers, strict=True)
    )


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; the set is incomplete.")
    text = path.read_text("utf-8", errors="replace")
    return [line for line in text.splitlines() if line.strip()]
