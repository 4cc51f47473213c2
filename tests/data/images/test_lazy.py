"""A set of many files is listed without decoding and trained on a batch at a time."""

from __future__ import annotations

import pytest
import torch

from relaxcert.data.images import parts, sets, tiny_imagenet
from relaxcert.data.images.found import counts, find_images
from relaxcert.data.images.parts import training_images
from relaxcert.data.landsat import Split
from relaxcert.training.batches import Batches
from tests.data.images import written

WNIDS = ["n01443537", "n01629819", "n02058221"]


@pytest.fixture
def decoded_files(monkeypatch) -> list[str]:
    """The files that are decoded, in order."""
    files: list[str] = []
    real = sets.decoded

    def counting(path, shape):
        files.append(path.name)
        return real(path, shape)

    monkeypatch.setattr(sets, "decoded", counting)
    return files


def test_listing_decodes_nothing(tmp_path, decoded_files):
    written.tiny_imagenet(tmp_path, WNIDS, images=4)
    found = find_images(tmp_path)
    assert counts(found.parts["train"])["goldfish"] == 4
    assert found.parts["train"].shape == (3, 64, 64)
    assert decoded_files == []


def test_a_set_that_is_larger_than_the_limit_is_decoded_batch_by_batch(
    tmp_path, decoded_files, monkeypatch
):
    """With a limit of less than the set's 12 * 49,152 bytes, as 100,000 images are beyond 2 GiB."""
    written.tiny_imagenet(tmp_path, WNIDS, images=4)
    monkeypatch.setattr(parts, "_IN_MEMORY", 12 * 3 * 64 * 64 * 4 - 1)
    data = training_images(tmp_path, "train")
    assert not isinstance(data, Split)
    assert decoded_files == []
    batches = Batches(data, 5, 3, torch.device("cpu")).epoch(0, 0)
    for number, size in enumerate((5, 5, 2), start=1):
        inputs, labels = next(batches)
        assert inputs.shape == (size, 3, 64, 64)
        assert len(labels) == size
        assert len(decoded_files) == min(5 * number, 12)  # of this and earlier batches, no more
    assert next(batches, None) is None
    assert len(set(decoded_files)) == 12


def test_a_set_within_the_limit_becomes_tensors_once(tmp_path, decoded_files, monkeypatch):
    written.tiny_imagenet(tmp_path, WNIDS, images=4)
    monkeypatch.setattr(parts, "_IN_MEMORY", 12 * 3 * 64 * 64 * 4)
    data = training_images(tmp_path, "train")
    assert isinstance(data, Split)
    for epoch in range(2):
        assert len(list(Batches(data, 5, 3, torch.device("cpu")).epoch(0, epoch))) == 3
    assert len(decoded_files) == 12


def test_batches_in_order_hold_one_batch_of_bytes(tmp_path, decoded_files):
    written.tiny_imagenet(tmp_path, WNIDS, images=4)
    stream = tiny_imagenet(tmp_path, "train").batches(5)
    assert next(stream)[0].shape == (5, 3, 64, 64)
    assert len(decoded_files) == 5
