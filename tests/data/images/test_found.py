"""What a folder holds is told by its files; what is odd about it is said."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from relaxcert.data.images.found import checksum, counts, find_images, open_images
from relaxcert.errors import DataError
from relaxcert.report.contact_sheet import contact_sheet
from relaxcert.spec.catalogue import load_document
from tests.data.images import written

CLASSES = load_document("eurosat/local").class_names


def test_each_published_set_is_recognised(tmp_path):
    written.cifar_binary(tmp_path / "c", [1, 2, 2])
    written.idx(tmp_path / "f" / "train-images-idx3-ubyte", written.noise(1, 2, 28, 28))
    written.idx(tmp_path / "f" / "train-labels-idx1-ubyte", np.array([9, 0], dtype=np.uint8))
    written.eurosat(tmp_path / "e", CLASSES)
    written.tiny_imagenet(tmp_path / "t", ["n01443537", "n01629819"])
    written.picture(tmp_path / "any" / "train" / "cat" / "1.jpg", 1)
    written.picture(tmp_path / "any" / "train" / "dog" / "1.jpg", 2)
    kinds = {name: find_images(tmp_path / name) for name in ("c", "f", "e", "t", "any")}
    told = {name: (found.kind, [*found.parts]) for name, found in kinds.items()}
    assert told == {
        "c": ("cifar100", ["train"]),
        "f": ("fashion-mnist", ["train"]),
        "e": ("eurosat", ["train", "test"]),
        "t": ("tiny-imagenet", ["train", "val"]),
        "any": ("folder", ["train"]),
    }
    assert kinds["c"].remarks == (
        "train has 3 images, the published set 50,000",
        "test is missing",
    )
    assert counts(kinds["f"].parts["train"])["Ankle boot"] == 1
    assert counts(kinds["c"].parts["train"])["baby"] == 2
    assert kinds["any"].remarks == ()


def test_the_checksum_is_that_of_labels_and_bytes(tmp_path):
    written.cifar_binary(tmp_path, [1, 2, 2])
    first = checksum(open_images(tmp_path, "train"))
    file = tmp_path / "cifar-100-binary" / "train.bin"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    second = checksum(open_images(tmp_path, "train"))
    assert len({first, second, None}) == 3
    assert checksum(open_images(tmp_path, "train"), most=10) is None


def test_folders_without_images_and_parts_that_are_missing_are_named(tmp_path):
    with pytest.raises(DataError, match="holds 0 folders"):
        find_images(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_images(tmp_path / "none")
    written.cifar_binary(tmp_path, [1])
    with pytest.raises(DataError, match="without a part 'val'; its parts are train"):
        open_images(tmp_path, "val")


def test_the_contact_sheet_shows_the_first_images_of_each_class(tmp_path):
    written.cifar_binary(tmp_path, [1, 2, 2, 99])
    path = contact_sheet(open_images(tmp_path, "train"), tmp_path / "sheet.png", each=2)
    with Image.open(path) as image:
        drawn = np.asarray(image.convert("RGB"))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 1000  # noise, not a blank page
