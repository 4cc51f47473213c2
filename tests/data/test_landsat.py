"""The embedded Landsat Satimage set: the numbers that the UCI repository states."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from relaxcert.data import landsat
from relaxcert.data.landsat import CLASS_NAMES
from relaxcert.errors import InvalidInput

SHARED = Path(__file__).parents[3] / "shared" / "data" / "satimage.npz"
# Of UCI's description: classes 1, 2, 3, 4, 5, 7 (6, "mixture", does not occur).
TRAIN_COUNTS = [1072, 479, 961, 415, 470, 1038]
TEST_COUNTS = [461, 224, 397, 211, 237, 470]


def embedded() -> dict[str, np.ndarray]:
    with resources.files("relaxcert.data").joinpath("satimage.npz").open("rb") as file:
        return dict(np.load(file, allow_pickle=False))


def test_the_official_split_has_the_counts_that_uci_states():
    train, test = landsat("train"), landsat("test")
    assert (train.inputs.shape, test.inputs.shape) == ((4435, 36), (2000, 36))
    assert train.labels.bincount().tolist() == TRAIN_COUNTS
    assert test.labels.bincount().tolist() == TEST_COUNTS
    assert train.class_names == CLASS_NAMES
    assert len(CLASS_NAMES) == 6


def test_the_first_official_test_row_is_where_it_belongs():
    """Row 0 of UCI's sat.trn and sat.tst, as anybody can read them there."""
    train, test = (landsat(part).inputs * 255 for part in ("train", "test"))
    assert train[0, :12].round().int().tolist() == [
        92,
        115,
        120,
        94,
        84,
        102,
        106,
        79,
        84,
        102,
        102,
        83,
    ]
    assert test[0, :8].round().int().tolist() == [80, 102, 102, 79, 76, 102, 102, 79]


def test_inputs_are_the_bytes_divided_by_255_in_float32():
    bytes_, split = embedded()["x"], landsat("train")
    assert bytes_.dtype == np.uint8
    assert split.inputs.dtype == torch.float32
    assert split.labels.dtype == torch.int64
    expected = bytes_[:4435].astype(np.float32) / np.float32(255)
    assert np.array_equal(split.inputs.numpy(), expected)


def test_the_embedded_arrays_have_not_changed():
    arrays = embedded()
    digest = hashlib.sha256(arrays["x"].tobytes() + arrays["y"].astype(np.uint8).tobytes())
    assert (arrays["x"].shape, arrays["y"].shape) == ((6435, 36), (6435,))
    assert digest.hexdigest() == "63ff4eec709f021789c1aa058269ac472dbdca72521d9f000e8083c232725083"


@pytest.mark.skipif(not SHARED.is_file(), reason="the project's shared data is not on this machine")
def test_the_embedded_arrays_are_those_of_the_shared_data():
    with np.load(SHARED, allow_pickle=False) as shared:
        for name, array in embedded().items():
            assert np.array_equal(array, shared[name]), name


def test_fit_and_validation_part_the_training_rows():
    train, fit, validation = (landsat(part) for part in ("train", "fit", "validation"))
    assert len(fit) + len(validation) == len(train)
    rows = torch.arange(4435)
    held_out = (rows // 100) % 5 == 4
    assert torch.equal(train.inputs[held_out], validation.inputs)
    assert torch.equal(train.labels[held_out], validation.labels)
    assert torch.equal(train.inputs[~held_out], fit.inputs)
    assert torch.equal(train.labels[~held_out], fit.labels)
    assert 0.15 < len(validation) / len(train) < 0.25


def test_each_call_gives_fresh_tensors():
    first = landsat("test")
    first.inputs.zero_()
    assert float(landsat("test").inputs.max()) > 0


def test_an_unknown_part_is_refused():
    with pytest.raises(InvalidInput, match="part='all'"):
        landsat("all")
