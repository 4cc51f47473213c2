"""Our side of saved sets, with a stand-in for the library: columns, decoding, errors."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from relaxcert.data.images import hugging_face
from relaxcert.data.images.found import find_images, open_images
from relaxcert.errors import DataError, MissingExtra
from tests.data.images.written import noise


class Image:
    """Stands for ``datasets.Image``, of which the name counts."""

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class ClassLabel:
    def __init__(self, *names: str) -> None:
        self.names = list(names)


class Value:
    pass


class Table:
    """The few methods of ``datasets.Dataset`` that are used."""

    def __init__(self, features, rows) -> None:
        self.features, self.rows = features, rows

    def cast_column(self, column, kind):
        assert kind.decode is False
        return Table({**self.features, column: kind}, self.rows)

    def __getitem__(self, key):
        return [row[key] for row in self.rows] if isinstance(key, str) else self.rows[key]


def encoded(seed: int, size: int = 6, kind: str = "PNG", channels: tuple[int, ...] = (3,)) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(noise(seed, size, size, *channels)).save(buffer, kind)
    return buffer.getvalue()


CLASSES = {"img": Image(), "fine_label": ClassLabel("a", "b", "c")}


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Write the outer files of a saved set and answer for the library with these rows."""

    def make(rows, features=None, parts=("train", "test")) -> Path:
        (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": list(parts)}))
        library = ModuleType("datasets")
        library.Image = Image
        library.load_from_disk = lambda place: Table(dict(features or CLASSES), rows)
        monkeypatch.setitem(sys.modules, "datasets", library)
        return tmp_path

    return make


def cells(*contents: bytes, label: int = 2):
    return [{"img": {"bytes": c, "path": None}, "fine_label": label} for c in contents]


def test_images_are_decoded_when_asked_for_and_are_those_that_were_saved(saved):
    folder = saved(cells(encoded(1), encoded(2), b"no image at all"))
    found = hugging_face(folder, "train")
    assert (len(found), found.shape, found.class_names) == (3, (3, 6, 6), ("a", "b", "c"))
    image, label = found[1]
    assert torch.equal(
        (image * 255).round().byte(), torch.from_numpy(noise(2, 6, 6, 3)).permute(2, 0, 1)
    )
    assert label == 2
    with pytest.raises(DataError, match=r"train, row 2 cannot be decoded"):
        found[2]


def test_grey_sets_keep_one_channel_and_files_beside_are_read_by_path(saved, tmp_path):
    found = hugging_face(saved(cells(encoded(1, channels=()))), "train")
    assert found.shape == (1, 6, 6)
    (tmp_path / "x.png").write_bytes(encoded(3))
    rows = [{"img": {"bytes": None, "path": str(tmp_path / "x.png")}, "fine_label": 0}]
    assert np.array_equal(
        hugging_face(saved(rows), "train").bytes_of(0), noise(3, 6, 6, 3).transpose(2, 0, 1)
    )


def test_the_folder_is_recognised(saved):
    folder = saved(cells(encoded(1)))
    assert find_images(folder).kind == "hugging-face"
    assert len(open_images(folder, "test")) == 1


@pytest.mark.parametrize(
    ("rows", "features", "said"),
    [
        (cells(encoded(1)), {"x": Value(), "y": ClassLabel("a")}, "0 columns of images"),
        (cells(encoded(1)), {"img": Image(), "y": Value()}, "no column of classes"),
        (cells(encoded(1)), {"img": Image(), "p": ClassLabel("a"), "q": ClassLabel("b")}, "no col"),
        (cells(encoded(1), label=-1), None, "row 0 has class -1"),
        (cells(encoded(1), label=3), None, "row 0 has class 3, expected classes 0 to 2"),
        ([], None, "there are no rows"),
        ([{"img": {"bytes": None, "path": None}, "fine_label": 0}], None, "there is no image"),
        (cells(encoded(1, kind="GIF", channels=())), None, "is a GIF file"),
    ],
)
def test_what_does_not_fit_is_named(saved, rows, features, said):
    with pytest.raises(DataError, match=said):
        hugging_face(saved(rows, features), "train")


def test_an_image_of_another_size_is_named_with_its_row(saved):
    found = hugging_face(saved(cells(encoded(1), encoded(2, size=7))), "train")
    with pytest.raises(DataError, match="row 1 is 7 x 7 pixels, expected 6 x 6"):
        found[1]


def test_lists_of_parts_are_checked(saved, tmp_path):
    folder = saved(cells(encoded(1)))
    with pytest.raises(DataError, match="no part 'val'; its parts are train, test"):
        hugging_face(folder, "val")
    for content in ("{}", "[", '{"splits": 3}', '{"splits": ["../x"]}'):
        (tmp_path / "dataset_dict.json").write_text(content)
        with pytest.raises(DataError, match=r"dataset_dict\.json"):
            hugging_face(folder, "train")


@pytest.mark.skipif(
    importlib.util.find_spec("datasets") is not None, reason="Hugging Face datasets is installed"
)
def test_without_the_library_the_extra_is_named(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(MissingExtra, match=r"pip install 'relaxcert\[data\]'"):
        hugging_face(tmp_path, "train")
