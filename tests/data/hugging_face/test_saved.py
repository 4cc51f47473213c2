"""Sets saved by Hugging Face datasets itself; skipped where it is not installed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from relaxcert.data.images import hugging_face
from relaxcert.data.images.found import find_images
from tests.data.images.written import noise

datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")


@pytest.fixture
def saved(tmp_path):
    features = datasets.Features(
        {
            "img": datasets.Image(),
            "fine_label": datasets.ClassLabel(names=["a", "b", "c"]),
            "coarse_label": datasets.ClassLabel(names=["x", "y"]),
        }
    )
    rows = {
        "img": [Image.fromarray(noise(row, 6, 6, 3)) for row in range(4)],
        "fine_label": [2, 0, 1, 2],
        "coarse_label": [0, 1, 1, 0],
    }
    part = datasets.Dataset.from_dict(rows, features=features)
    whole = datasets.DatasetDict({"train": part, "test": part.select([0, 3])})
    whole.save_to_disk(str(tmp_path / "both"))
    part.save_to_disk(str(tmp_path / "one"))
    return tmp_path


def test_what_the_library_saved_is_what_is_read(saved):
    train = hugging_face(saved / "both", "train")
    assert train.labels.tolist() == [2, 0, 1, 2]
    assert train.class_names == ("a", "b", "c")
    for row in range(4):
        assert np.array_equal(train.bytes_of(row), noise(row, 6, 6, 3).transpose(2, 0, 1))
    assert hugging_face(saved / "both", "test").labels.tolist() == [2, 2]


def test_both_layouts_are_recognised(saved):
    assert [*find_images(saved / "both").parts] == ["train", "test"]
    assert [*find_images(saved / "one").parts] == ["all"]
