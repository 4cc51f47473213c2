"""What a folder holds: which image set, how many images a class, and what looks wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from relaxcert.data.images.cifar import cifar100
from relaxcert.data.images.eurosat import eurosat
from relaxcert.data.images.eurosat import root_of as eurosat_root
from relaxcert.data.images.folder import image_folder
from relaxcert.data.images.hugging_face import hugging_face, saved_parts
from relaxcert.data.images.idx import fashion_mnist
from relaxcert.data.images.sets import ImageArray, ImageSet
from relaxcert.data.images.tiny_imagenet import root_of as tiny_root
from relaxcert.data.images.tiny_imagenet import tiny_imagenet
from relaxcert.errors import DataError
from relaxcert.spec.catalogue import load_document

Reader = Callable[[Path, str], ImageSet]


@dataclass(frozen=True)
class Found:
    """An image set in a folder.

    Attributes:
        kind: ``cifar100``, ``fashion-mnist``, ``eurosat``, ``tiny-imagenet``,
            ``hugging-face`` or ``folder``.
        parts: the images of each part that is there.
        remarks: how it differs from the published set, in words.
    """

    kind: str
    parts: dict[str, ImageSet]
    remarks: tuple[str, ...] = field(default=())


_SIZES = {
    "cifar100": {"train": 50_000, "test": 10_000},
    "fashion-mnist": {"train": 60_000, "test": 10_000},
    "eurosat": {"train": 18_000, "test": 9_000},
    "tiny-imagenet": {"train": 100_000, "val": 10_000},
}


def find_images(folder: str | Path) -> Found:
    """Tell which image set a folder holds, by its files, and list it; nothing is decoded.

    Raises:
        DataError: no set that is known, or a damaged one.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder.")
    kind, readers = _kind_of(root)
    parts = {part: read(root, part) for part, read in readers.items()}
    remarks = [
        f"{part} has {len(parts[part])} images, the published set {wanted:,}"
        for part, wanted in _SIZES.get(kind, {}).items()
        if part in parts and len(parts[part]) != wanted
    ]
    remarks += [
        f"{part} is missing" for part in _SIZES.get(kind, {}) if parts and part not in parts
    ]
    return Found(kind, parts, tuple(remarks))


def open_images(folder: str | Path, part: str) -> ImageSet:
    """One part of the image set that a folder holds.

    Raises:
        DataError: no such part or set.
    """
    found = find_images(folder)
    if part not in found.parts:
        raise DataError(
            f"{folder} holds {found.kind} without a part {part!r}; its parts are "
            f"{', '.join(found.parts)}."
        )
    return found.parts[part]


def counts(images: ImageSet) -> dict[str, int]:
    """Images a class, by name."""
    numbers = torch.bincount(images.labels, minlength=len(images.class_names)).tolist()
    return dict(zip(images.class_names, numbers, strict=True))


def checksum(images: ImageSet, *, most: int = 2**28) -> str | None:
    """SHA-256 (hex) of labels and bytes, in order; None for files and for more than ``most`` bytes.

    It tells whether two machines hold the same images, whatever format they came in.
    """
    if not isinstance(images, ImageArray) or images.images.nbytes > most:
        return None
    digest = hashlib.sha256(images.labels.numpy().astype("<i8").tobytes())
    for start in range(0, len(images), 1024):
        digest.update(images.images[start : start + 1024].tobytes())
    return digest.hexdigest()


def _kind_of(root: Path) -> tuple[str, dict[str, Reader]]:
    saved = saved_parts(root)
    if saved:
        return "hugging-face", dict.fromkeys(saved, hugging_face)
    for name in ("cifar-100-binary", "cifar-100-python", ""):
        place = root / name
        files = [f"{part}{end}" for part in ("train", "test") for end in (".bin", "")]
        there = [file.removesuffix(".bin") for file in files if (place / file).is_file()]
        if there:
            return "cifar100", dict.fromkeys(there, cifar100)  # pyright: ignore[reportReturnType]
    if any(root.glob("*-images-idx3-ubyte*")):
        prefixes = {"train": "train", "test": "t10k"}
        there = [part for part, name in prefixes.items() if any(root.glob(f"{name}-images-*"))]
        return "fashion-mnist", dict.fromkeys(there, fashion_mnist)  # pyright: ignore[reportReturnType]
    if _holds(lambda: tiny_root(root)):
        return "tiny-imagenet", dict.fromkeys(("train", "val"), tiny_imagenet)  # pyright: ignore[reportReturnType]
    names = load_document("eurosat/local").class_names or ()
    if _holds(lambda: eurosat_root(root, names)):
        return "eurosat", dict.fromkeys(("train", "test"), eurosat)  # pyright: ignore[reportReturnType]
    split = [part for part in ("train", "val", "test") if (root / part).is_dir()]
    if split:
        return "folder", dict.fromkeys(split, lambda root, part: image_folder(root / part))
    return "folder", {"all": lambda root, _: image_folder(root)}


def _holds(look: Callable[[], object]) -> bool:
    try:
        look()
    except DataError:
        return False
    return True
