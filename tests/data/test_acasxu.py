"""Samples labelled by a network: balanced, reproducible, never balanced by force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn

from relaxcert.data.acasxu import MAXIMUM, MINIMUM, acasxu, closest_pair, normalised
from relaxcert.data.rejection import balanced_sample, uniform_sample
from relaxcert.errors import DataError, InvalidInput
from tests.networks import randn, random_backbone

BOX = normalised(np.array(MINIMUM)), normalised(np.array(MAXIMUM))


def network() -> nn.Module:
    net = random_backbone(3, features=5, hidden=(16, 16), classes=5, dtype=torch.float64)
    centre = net(randn(0, 1000, 5) / 4).detach().mean(0)
    net[-1].bias.data -= centre  # every class occurs
    return net


def test_the_region_is_that_of_the_public_networks():
    np.testing.assert_allclose(BOX[0], [-0.32842, -0.5, -0.5, -0.5, -0.5], atol=1e-5)
    np.testing.assert_allclose(BOX[1], [0.67986, 0.5, 0.5, 0.5, 0.5], atol=1e-5)


def test_parts_are_balanced_and_labelled_by_the_network(tmp_path):
    net = network()
    parts = acasxu(net, identity="a", sizes=(103, 50, 25), folder=tmp_path)
    assert parts["train"].labels.bincount(minlength=5).tolist() == [21, 21, 21, 20, 20]
    assert parts["test"].labels.bincount(minlength=5).tolist() == [5] * 5
    for part in parts.values():
        with torch.no_grad():
            assert torch.equal(net(part.inputs.double()).argmax(1), part.labels)
        inputs = part.inputs.double().numpy()
        assert (inputs >= BOX[0] - 1e-7).all()
        assert (inputs <= BOX[1] + 1e-7).all()


def test_the_cache_tells_networks_and_seeds_apart(tmp_path):
    settings = {"sizes": (25, 25, 25), "folder": tmp_path}
    first = acasxu(network(), identity="a", **settings)
    assert torch.equal(
        acasxu(network(), identity="a", **settings)["test"].inputs, first["test"].inputs
    )
    other = acasxu(network(), identity="a", seed=1, **settings)
    assert not torch.equal(other["test"].inputs, first["test"].inputs)
    acasxu(network(), identity="b", **settings)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_rejection_sample_is_the_start_of_a_uniform_one():
    def by_first(points: np.ndarray) -> np.ndarray:
        return (points[:, 0] > 0.8).astype(np.int64)

    lower, upper = np.zeros(2), np.ones(2)
    everything, labels = uniform_sample(by_first, lower, upper, 65_536, seed=(5, 0))
    inputs, found = balanced_sample(by_first, lower, upper, 20, 2, seed=(5, 0))
    for label in (0, 1):
        chosen = inputs[found == label]
        expected = everything[labels == label][:10]
        assert sorted(map(tuple, chosen)) == sorted(map(tuple, expected))


def test_a_class_that_never_occurs_is_named(monkeypatch):
    monkeypatch.setattr("relaxcert.data.rejection._MOST", 4096)
    constant = lambda points: np.zeros(len(points), dtype=np.int64)  # noqa: E731
    with pytest.raises(DataError, match="class 1 occurs 0 times in 4096"):
        balanced_sample(constant, np.zeros(2), np.ones(2), 10, 2, seed=(0,))
    with pytest.raises(InvalidInput, match="points=1"):
        balanced_sample(constant, np.zeros(2), np.ones(2), 1, 2, seed=(0,))


@pytest.mark.parametrize(
    "wrong", [nn.Linear(4, 5, dtype=torch.float64), nn.Linear(5, 4, dtype=torch.float64)]
)
def test_another_kind_of_network_is_refused(tmp_path, wrong):
    with pytest.raises(InvalidInput, match=r"\(batch, 5\)|expected \(2, 5\)"):
        acasxu(wrong, identity="w", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_closest_pair_is_that_of_all_pairs():
    inputs, labels = randn(7, 60, 5), torch.arange(60) % 3
    distances = cdist(inputs.numpy(), inputs.numpy())
    different = labels[:, None].numpy() != labels[None].numpy()
    assert closest_pair(inputs, labels) == pytest.approx(distances[different].min())
    assert closest_pair(inputs, torch.zeros(60, dtype=torch.int64)) == float("inf")
