"""EuroSAT RGB: 27,000 Sentinel-2 patches in 10 classes of land use.

Helber, Bischke, Dengel, Borth, *EuroSAT*, 2019. There is no standard split: the paper uses 2/3 for
training and 1/3 for testing; here every class is split so, by a seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from relaxcert.data.images.folder import image_folder
from relaxcert.data.images.sets import ImageSubset
from relaxcert.errors import DataError, InvalidInput
from relaxcert.spec.catalogue import load_document

SHAPE = (3, 64, 64)
_ROOTS = ("", "2750", "EuroSAT_RGB", "EuroSAT")


def eurosat(folder: str | Path, part: Literal["train", "test"], *, seed: int = 0) -> ImageSubset:
    """EuroSAT RGB, (3, 64, 64), of one part of the split that the seed gives.

    ``folder`` holds the ten class folders, or one of ``2750``, ``EuroSAT_RGB``, ``EuroSAT`` with
    them (the layouts in which it is published). Of each class 2/3, rounded, are training images.

    Raises:
        DataError: class folders that are missing or empty.
    """
    if part not in ("train", "test"):
        raise InvalidInput(f"part={part!r} must be one of train, test.")
    names = load_document("eurosat/local").class_names or ()
    whole = image_folder(root_of(Path(folder), names), class_names=names, shape=SHAPE)
    labels = whole.labels.numpy()
    generator = np.random.default_rng(seed)
    rows: list[np.ndarray] = []
    for label in range(len(names)):
        order = generator.permutation(np.flatnonzero(labels == label))
        cut = round(len(order) * 2 / 3)
        rows.append(order[:cut] if part == "train" else order[cut:])
    return whole.subset(np.sort(np.concatenate(rows)))


def root_of(folder: Path, names: tuple[str, ...]) -> Path:
    """The folder that holds the class folders.

    Raises:
        DataError: none of the known layouts.
    """
    for layout in _ROOTS:
        if any((folder / layout / name).is_dir() for name in names):
            return folder / layout
    raise DataError(
        f"{folder} holds no EuroSAT RGB: expected the class folders ({', '.join(names[:3])}, ...) "
        f"in it, or in {', '.join(_ROOTS[1:])} inside it."
    )
