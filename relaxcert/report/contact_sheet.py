"""A contact sheet: some images of each class side by side, as a PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from relaxcert.data.images.sets import ImageSet
from relaxcert.files import write_atomically
from relaxcert.report.plots import new_figure

_MOST_CLASSES = 40


def contact_sheet(images: ImageSet, path: str | Path, *, each: int = 8) -> Path:
    """Draw the first ``each`` images of every class (of at most 40), one class a row.

    Raises:
        MissingPlots: matplotlib is not installed.
        DataError: an image that cannot be decoded.
    """
    classes = [
        label for label in range(len(images.class_names)) if bool((images.labels == label).any())
    ][:_MOST_CLASSES]
    _, height, width = images.shape
    sheet = np.full((len(classes) * (height + 2), each * (width + 2), 3), 255, dtype=np.uint8)
    for row, label in enumerate(classes):
        for column, index in enumerate(torch.nonzero(images.labels == label)[:each, 0].tolist()):
            pixels = np.broadcast_to(images.bytes_of(index), (3, height, width)).transpose(1, 2, 0)
            top, left = row * (height + 2), column * (width + 2)
            sheet[top : top + height, left : left + width] = pixels
    size = 0.35 * len(classes) + 0.6
    figure, (ax,) = new_figure(columns=1, width=0.35 * each * width / height + 3.0, height=size)
    ax.imshow(sheet, interpolation="nearest")
    ax.set_yticks(
        [row * (height + 2) + height / 2 for row in range(len(classes))],
        [images.class_names[label] for label in classes],
    )
    ax.set_xticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(length=0)
    return write_atomically(path, lambda name: figure.savefig(name, dpi=144, bbox_inches="tight"))
