"""The comparison of weights with those of the proof: every changed bit counts, in any layout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxcert.heads import GloRoNet
from relaxcert.lipschitz import snapshot
from relaxcert.nn import MinMax
from relaxcert.spec import Local
from tests.networks import linear, randn


def network(dtype: torch.dtype = torch.float32) -> GloRoNet:
    """An odd number of weights, so that one tensor is no multiple of eight bytes."""
    first = linear(randn(1, 6, 3), randn(2, 6), dtype=dtype)
    last = linear(randn(3, 3, 6), randn(4, 3), dtype=dtype)
    return GloRoNet(nn.Sequential(first, MinMax(), last), Local(eps="0.1"))


def changes_seen(dtype: torch.dtype) -> list[bool]:
    """For each single number of the network: is a change of its last bit seen?"""
    net = network(dtype)
    seen = []
    for parameter in net.backbone.parameters():
        flat = parameter.data.view(-1)
        for place in range(flat.numel()):
            before, kept = net.verify().fingerprint, flat[place].clone()
            flat[place] = torch.nextafter(kept, kept + 1)
            seen.append(net.verify().fingerprint != before)
            flat[place] = kept
    return seen


@pytest.mark.parametrize("libc", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_last_bit_of_every_number_is_seen(dtype, libc, monkeypatch):
    """With memcmp, and where the system has none."""
    if not libc:
        monkeypatch.setattr(snapshot, "memcmp", None)
    elif snapshot.memcmp is None:
        pytest.skip("this system's C library is not reached")
    assert all(changes_seen(dtype))


def test_weights_in_another_layout_are_compared_as_well():
    net = network()
    net.backbone[0].weight.data = net.backbone[0].weight.data.t().contiguous().t()
    before = net.verify().fingerprint
    assert net.verify().fingerprint == before
    net.backbone[0].weight.data[5, 2] += 1.0
    assert net.verify().fingerprint != before


def test_a_comparison_that_always_agrees_is_found(monkeypatch):
    monkeypatch.setattr(snapshot, "same_numbers", lambda live, kept: True)
    assert not any(changes_seen(torch.float32))


def test_a_changed_setting_is_seen_although_all_weights_are_the_same():
    """The graph is made anew for it, so that it is not taken for the graph of the proof."""
    net = GloRoNet(nn.Sequential(nn.Dropout(0.5), linear(randn(1, 4, 3))), Local(eps=1))
    before = net.verify().fingerprint
    net.backbone[0].p = 0.25
    assert net.verify().fingerprint != before


class Other(torch.Tensor):
    """A subclass, whose memory may mean anything."""


VIEWS = {
    "plain": lambda base: base,
    "transposed": lambda base: base.t().contiguous().t(),
    "every second": lambda base: torch.stack([base, base + 1], 2)[:, :, 0],
    "negative bit": lambda base: torch.complex(base, -base).conj().imag,
    "a subclass": lambda base: base.as_subclass(Other),
}


@pytest.mark.parametrize("name", list(VIEWS))
def test_tensors_whose_memory_is_not_their_numbers_are_compared_as_numbers(name):
    """Against torch.equal, with the same and with one other number."""
    base = randn(1, 6, 4, dtype=torch.float32)
    live = VIEWS[name](base)
    for kept in (base.clone(), live.as_subclass(torch.Tensor).clone(), base + 1):
        assert snapshot.same_numbers(live, kept) == torch.equal(live, kept)
    assert snapshot.same_numbers(live, base.clone())
