"""EuroSAT, Tiny-ImageNet and any folder of images: right, lazy, or one clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from relaxcert.data.images import eurosat, image_folder, tiny_imagenet
from relaxcert.data.images.decoding import decoded, size_of
from relaxcert.errors import DataError, InvalidInput
from relaxcert.spec.catalogue import load_document
from tests.data.images import written

CLASSES = load_document("eurosat/local").class_names
WNIDS = ["n01443537", "n01629819", "n02058221"]


@pytest.mark.parametrize("layout", ["", "2750", "EuroSAT_RGB", "EuroSAT"])
def test_eurosat_is_split_two_to_one_in_every_class(tmp_path, layout):
    written.eurosat(tmp_path / layout, CLASSES)
    train, test = eurosat(tmp_path, "train", seed=1), eurosat(tmp_path, "test", seed=1)
    assert train.labels.bincount().tolist() == [2] * 10
    assert test.labels.bincount().tolist() == [1] * 10
    files = [{part.whole.files[row] for row in part.rows} for part in (train, test)]
    assert files[0].isdisjoint(files[1])
    assert len(files[0] | files[1]) == 30
    image, label = train[0]
    assert (image.shape, label, train.class_names) == ((3, 64, 64), 0, CLASSES)


def test_the_split_of_eurosat_is_that_of_the_seed(tmp_path):
    written.eurosat(tmp_path, CLASSES)
    rows = [eurosat(tmp_path, "train", seed=seed).rows.tolist() for seed in (1, 1, 2)]
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


def test_an_incomplete_eurosat_names_what_is_missing(tmp_path):
    with pytest.raises(DataError, match="holds no EuroSAT RGB"):
        eurosat(tmp_path, "train")
    written.eurosat(tmp_path, CLASSES[:-1])
    with pytest.raises(DataError, match=r"SeaLake: there is no such folder"):
        eurosat(tmp_path, "train")
    (tmp_path / "SeaLake").mkdir()
    with pytest.raises(DataError, match=r"SeaLake holds no images"):
        eurosat(tmp_path, "train")
    with pytest.raises(InvalidInput, match="part='fit'"):
        eurosat(tmp_path, "fit")


def test_tiny_imagenet_orders_classes_by_identifier_and_converts_grey_images(tmp_path):
    root = written.tiny_imagenet(tmp_path, WNIDS)
    train, val = tiny_imagenet(tmp_path, "train"), tiny_imagenet(root, "val")
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert val.labels.tolist() == [0, 1, 2]
    assert train.class_names == ("goldfish", *WNIDS[1:])
    grey, colour = train[0][0], train[1][0]
    assert torch.equal(grey[0], grey[1])
    assert not torch.equal(colour[0], colour[1])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("val_0.JPEG\tn01443537\t0\t0\t62", "line 1: expected a file, a class and 4 numbers"),
        ("val_0.JPEG n01443537 0 0 62 62", "line 1: expected a file"),
        ("val_0.JPEG\tn99999999\t0\t0\t62\t62", "line 1: class 'n99999999' is not in wnids"),
        ("../x.JPEG\tn01443537\t0\t0\t62\t62", "line 1: '../x.JPEG' is not the name of a file"),
        ("val_9.JPEG\tn01443537\t0\t0\t62\t62", r"val_9\.JPEG is listed"),
    ],
)
def test_a_bad_annotation_is_named_with_its_line(tmp_path, line, said):
    root = written.tiny_imagenet(tmp_path, WNIDS)
    (root / "val" / "val_annotations.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=said):
        tiny_imagenet(tmp_path, "val")


def test_missing_lists_of_tiny_imagenet_are_named(tmp_path):
    with pytest.raises(DataError, match=r"wnids\.txt is missing"):
        tiny_imagenet(tmp_path, "train")
    root = written.tiny_imagenet(tmp_path, WNIDS)
    (root / "val" / "val_annotations.txt").unlink()
    with pytest.raises(DataError, match=r"val_annotations\.txt: there is no such file"):
        tiny_imagenet(tmp_path, "val")
    (root / "wnids.txt").write_text(f"{WNIDS[0]}\n{WNIDS[0]}\n")
    with pytest.raises(DataError, match="lists an identifier twice"):
        tiny_imagenet(tmp_path, "train")


def test_a_folder_of_images_is_read_lazily(tmp_path):
    written.picture(tmp_path / "cat" / "b.png", 1, 8, kind="PNG")
    written.picture(tmp_path / "dog" / "a.jpg", 2, 8)
    found = image_folder(tmp_path)
    assert (found.class_names, found.shape, len(found)) == (("cat", "dog"), (3, 8, 8), 2)
    (tmp_path / "dog" / "a.jpg").unlink()  # after listing: only decoding needs it
    with Image.open(tmp_path / "cat" / "b.png") as image:
        assert np.array_equal(found.bytes_of(0), np.asarray(image).transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"a\.jpg: there is no such file"):
        found[1]
    batches = list(image_folder(tmp_path, class_names=["cat"]).batches(2))
    assert [(images.shape, labels.tolist()) for images, labels in batches] == [((1, 3, 8, 8), [0])]


def test_folders_that_hold_no_set_are_named(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        image_folder(tmp_path / "none")
    with pytest.raises(DataError, match="holds 0 folders"):
        image_folder(tmp_path)


def test_a_png_named_jpeg_is_refused(tmp_path):
    written.picture(tmp_path / "x.JPEG", 1, 8, kind="PNG")
    with pytest.raises(DataError, match=r"x\.JPEG is a PNG file, but its name says JPEG"):
        decoded(tmp_path / "x.JPEG", (3, 8, 8))
    with pytest.raises(DataError, match="is a PNG file"):
        size_of(tmp_path / "x.JPEG")


def test_a_cut_off_image_and_one_of_another_size_are_refused(tmp_path):
    path = tmp_path / "x.jpg"
    written.picture(path, 1, 64)
    with pytest.raises(DataError, match="64 x 64 pixels, expected 32 x 32"):
        decoded(path, (3, 32, 32))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DataError, match="cannot be decoded"):
        decoded(path, (3, 64, 64))
    path.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be decoded"):
        decoded(path, (3, 64, 64))


def test_an_image_that_would_unpack_to_gigabytes_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(path, "PNG")  # 900 million pixels in about 100 kB
    assert path.stat().st_size < 2**20
    for read in (decoded, size_of):
        with pytest.raises(DataError, match=r"bomb\.png"):
            read(path)


def test_colours_are_not_turned_to_grey_silently(tmp_path):
    written.picture(tmp_path / "x.png", 1, 8, kind="PNG")
    with pytest.raises(DataError, match="expected a grey image"):
        decoded(tmp_path / "x.png", (1, 8, 8))
