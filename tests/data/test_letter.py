"""The embedded Letter set: the numbers that the UCI repository states, and what is odd about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from relaxcert.data import letter
from relaxcert.data.letter import CLASS_NAMES
from relaxcert.errors import InvalidInput

SHARED = Path(__file__).parents[3] / "shared" / "data" / "letter.npz"
# UCI's letter-recognition.names: instances of A, B, ... Z.
COUNTS = [
    *(789, 766, 736, 805, 768, 775, 773, 734, 755, 747, 739, 761, 792),
    *(783, 753, 803, 783, 758, 748, 796, 813, 764, 752, 787, 786, 734),
]


def test_the_usual_split_has_the_counts_that_uci_states():
    train, test = letter("train"), letter("test")
    assert (train.inputs.shape, test.inputs.shape) == ((16_000, 16), (4_000, 16))
    both = torch.cat([train.labels, test.labels])
    assert both.bincount().tolist() == COUNTS
    assert "".join(CLASS_NAMES[label] for label in train.labels[:5]) == "TIDNG"  # UCI's first rows
    assert (train.inputs[0] * 15).round().int().tolist() == [
        *(2, 8, 3, 5, 1, 8, 13, 0, 6, 6, 10, 8, 0, 8, 0, 8),
    ]


def test_380_test_rows_also_occur_in_training():
    rows = {tuple(row) for row in (letter("train").inputs * 15).round().int().tolist()}
    test = (letter("test").inputs * 15).round().int().tolist()
    assert sum(tuple(row) in rows for row in test) == 380


def test_fit_and_validation_divide_the_training_part():
    parts = [letter(part) for part in ("fit", "validation")]
    assert torch.equal(torch.cat([part.inputs for part in parts]), letter("train").inputs)
    with pytest.raises(InvalidInput, match="part='dev'"):
        letter("dev")


@pytest.mark.skipif(not SHARED.exists(), reason="the shared copy of the data is not here")
def test_the_embedded_copy_is_the_shared_one():
    with np.load(SHARED) as arrays:
        labels = torch.from_numpy(arrays["y"].astype(np.int64))
    assert torch.equal(torch.cat([letter("train").labels, letter("test").labels]), labels)
