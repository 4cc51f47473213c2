"""Image sets that Hugging Face ``datasets`` saved with ``save_to_disk`` (extra ``[data]``).

The folder holds Arrow files, which are memory-mapped; images stay encoded until they are asked for
and are then decoded by the same careful reader as files. Nothing is fetched, no script is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from relaxcert.data.images.decoding import decoded, decoded_bytes
from relaxcert.data.images.sets import ImageSet
from relaxcert.errors import DataError, MissingExtra

_DICTIONARY, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"
_WHOLE = "all"  # the part of a set that is not split
# Of several columns with classes, the first of these: CIFAR-100 has fine and coarse ones.
_LABELS = ("label", "labels", "fine_label")


def saved_parts(folder: str | Path) -> tuple[str, ...]:
    """The parts of a saved set, by its own list; empty where a folder is none.

    Raises:
        DataError: a list that cannot be read.
    """
    root = Path(folder)
    if (root / _DICTIONARY).is_file():
        try:
            content: Any = json.loads((root / _DICTIONARY).read_text("utf-8"))
            parts = tuple(str(name) for name in content["splits"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{root / _DICTIONARY} does not list splits ({error!r}): the set is damaged; save "
                "it again with save_to_disk."
            ) from error
        if any(Path(name).name != name for name in parts):
            raise DataError(f"{root / _DICTIONARY} lists {parts}: these are no names of folders.")
        return parts
    return (_WHOLE,) if all((root / name).is_file() for name in (_STATE, _INFO)) else ()


def hugging_face(folder: str | Path, part: str) -> HuggingFaceImages:
    """One part of a set that was saved with ``save_to_disk``.

    Args:
        folder: of a DatasetDict, or of one Dataset (whose part is ``all``).
        part: such as ``train``.

    Raises:
        MissingExtra: ``datasets`` is not installed.
        DataError: no such part; no column of images or of classes; a damaged set.
    """
    root, parts = Path(folder), saved_parts(folder)
    if part not in parts:
        known = ", ".join(parts) or "none: it was not written by save_to_disk"
        raise DataError(f"{root} has no part {part!r}; its parts are {known}.")
    library = _datasets()
    place = root if parts == (_WHOLE,) else root / part
    try:
        table: Any = library.load_from_disk(str(place))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{place} cannot be read as a saved set ({error}): it is incomplete or damaged; save "
            "it again with save_to_disk."
        ) from error
    features: Mapping[str, Any] = table.features
    image, label = _image_column(features, place), _label_column(features, place)
    encoded = table.cast_column(image, library.Image(decode=False))
    return HuggingFaceImages(encoded, image, label, place)


class HuggingFaceImages(ImageSet):
    """Images of a saved set, decoded when asked for; all of the first one's size.

    Args:
        table: a ``datasets.Dataset`` whose images are not decoded: {"bytes": ..., "path": ...}.
        image: name of the column of images.
        label: of the column of classes.
        place: named in errors.
    """

    def __init__(self, table: Any, image: str, label: str, place: Path) -> None:
        labels = np.asarray(list(table[label]), dtype=np.int64)
        names = tuple(str(name) for name in table.features[label].names)
        wrong = (labels < 0) | (labels >= len(names))
        if not len(labels) or wrong.any():
            row = int(wrong.argmax()) if len(labels) else 0
            said = f"row {row} has class {labels[row]}" if len(labels) else "there are no rows"
            raise DataError(f"{place}: {said}, expected classes 0 to {len(names) - 1}.")
        self.table, self.image, self.place = table, image, place
        channels, height, width = self._pixels(0, None).shape
        super().__init__(labels, names, (channels, height, width))

    def bytes_of(self, index: int) -> np.ndarray:
        """Decode one image.

        Raises:
            DataError: not an image, or one of another size.
        """
        return self._pixels(index, self.shape)

    def _pixels(self, index: int, shape: tuple[int, ...] | None) -> np.ndarray:
        cell: Mapping[str, Any] = self.table[int(index)][self.image]
        content, path = cell.get("bytes"), cell.get("path")
        if content is not None:
            return decoded_bytes(content, f"{self.place}, row {index}", shape)
        if path is None:
            raise DataError(f"{self.place}, row {index}: there is no image.")
        return decoded(Path(path), shape)


def _image_column(features: Mapping[str, Any], place: Path) -> str:
    found = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    if len(found) != 1:
        raise DataError(
            f"{place} has {len(found)} columns of images ({', '.join(features)}), expected one: "
            "select the columns with select_columns and save it again."
        )
    return found[0]


def _label_column(features: Mapping[str, Any], place: Path) -> str:
    found = [name for name, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    if len(found) == 1:
        return found[0]
    preferred = [name for name in _LABELS if name in found]
    if not preferred:
        raise DataError(
            f"{place} has no column of classes (ClassLabel) that is told by its name among "
            f"{', '.join(features)}: cast one with class_encode_column, call it label, save again."
        )
    return preferred[0]


def _datasets() -> Any:
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtra(
            "sets saved by Hugging Face datasets are read with that library, which is not "
            "installed: pip install 'relaxcert[data]'."
        ) from error
    return datasets
