"""Batches: an order that depends on (seed, epoch) alone, and labels that are checked."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import TensorDataset

from relaxcert.data import Split
from relaxcert.errors import InvalidInput
from relaxcert.training.batches import Batches
from tests.training.toy import Plain

CPU = torch.device("cpu")


def numbered(points: int) -> tuple[Tensor, Tensor]:
    """Inputs that say which row they are."""
    return torch.arange(float(points))[:, None], torch.arange(points) % 3


def order(data: object, seed: int, epoch: int, batch_size: int = 4) -> list[int]:
    batches = Batches(data, batch_size, 3, CPU)
    return [int(row) for inputs, _ in batches.epoch(seed, epoch) for row in inputs[:, 0]]


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**40), st.integers(0, 10**5))
def test_each_row_comes_once_an_epoch_with_its_own_label(points, batch_size, seed, epoch):
    inputs, labels = numbered(points)
    batches = Batches((inputs, labels), batch_size, 3, CPU)
    seen = list(batches.epoch(seed, epoch))
    assert len(seen) == len(batches)
    assert all(len(x) == batch_size for x, _ in seen[:-1])
    rows = torch.cat([x for x, _ in seen])[:, 0].long()
    assert rows.sort().values.tolist() == list(range(points))
    assert torch.equal(torch.cat([y for _, y in seen]), labels[rows])


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else():
    data = numbered(60)
    first = order(data, 3, 7)
    torch.manual_seed(99)
    assert order(data, 3, 7) == first
    assert order(data, 3, 8) != first
    assert order(data, 4, 7) != first
    assert order(data, 3, 7, batch_size=13) == first


def test_neighbouring_seeds_share_no_epoch():
    data = numbered(60)
    orders = [tuple(order(data, seed, epoch)) for seed in range(5) for epoch in range(5)]
    assert len(set(orders)) == 25


def test_tensors_split_tensor_dataset_and_plain_dataset_give_the_same_batches():
    inputs, labels = numbered(21)
    expected = order((inputs, labels), 5, 2)
    for data in (Split(inputs, labels), TensorDataset(inputs, labels), Plain(inputs, labels)):
        assert order(data, 5, 2) == expected


def test_a_plain_dataset_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    order(Plain(*numbered(9)), 1, 1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("label", [3, 200, -1])
def test_a_label_out_of_range_names_its_row(label):
    inputs, labels = numbered(12)
    labels[7] = label
    with pytest.raises(InvalidInput, match=rf"row 7: label {label} .*from 0 to 2"):
        Batches((inputs, labels), 4, 3, CPU)


def test_a_label_out_of_range_in_a_dataset_names_the_datasets_row():
    inputs, labels = numbered(12)
    labels[7] = 9
    with pytest.raises(InvalidInput, match="row 7: label 9 "):
        list(Batches(Plain(inputs, labels), 4, 3, CPU).epoch(0, 0))


@pytest.mark.parametrize("labels", [torch.zeros(6), torch.zeros(6, 1).long(), torch.zeros(6) * 1j])
def test_labels_that_are_not_one_whole_number_a_point_are_refused(labels):
    with pytest.raises(InvalidInput, match="one whole number"):
        Batches((torch.zeros(6, 2), labels), 4, 3, CPU)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_integer_type_become_int64(dtype):
    inputs, labels = numbered(6)
    for data in ((inputs, labels.to(dtype)), TensorDataset(inputs, labels.to(dtype))):
        for _, found in Batches(data, 4, 3, CPU).epoch(0, 0):
            assert found.dtype == torch.int64


@pytest.mark.parametrize(
    "data", [(torch.zeros(0, 2), torch.zeros(0).long()), Plain(torch.zeros(0), torch.zeros(0))]
)
def test_no_data_is_refused(data):
    with pytest.raises(InvalidInput, match="train_data is empty"):
        Batches(data, 4, 3, CPU)


@pytest.mark.parametrize(("inputs", "labels"), [(5, 6), (6, 5)])
def test_sizes_that_disagree_are_refused(inputs, labels):
    with pytest.raises(InvalidInput, match=f"{inputs} inputs and {labels} labels"):
        Batches((torch.zeros(inputs, 2), torch.zeros(labels).long()), 4, 3, CPU)


def test_a_batch_size_of_0_is_refused():
    with pytest.raises(InvalidInput, match="batch_size=0"):
        Batches(numbered(3), 0, 3, CPU)
