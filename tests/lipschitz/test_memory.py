"""Incremental proofs: only what changed is proved again; the result is that of a fresh proof."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxcert.lipschitz import memory, registry
from relaxcert.lipschitz.network import NetworkLipschitz
from relaxcert.lipschitz.rules_scaling import ScaleRule
from relaxcert.lipschitz.verified import VerifiedBounds, verify
from relaxcert.nn.layers import MinMax
from relaxcert.nn.shapes import Scale


def dense() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(5, 12), MinMax(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12), MinMax()]
    return nn.Sequential(*layers, nn.Linear(12, 3)).eval()


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
    layers = [first, nn.BatchNorm2d(4), MinMax(), second, nn.AdaptiveMaxPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3)).eval()


@pytest.fixture
def factorizations(monkeypatch):
    """The sizes of the Cholesky factors so far."""
    sizes: list[int] = []
    original = torch.linalg.cholesky_ex

    def counted(matrix, *rest, **named):
        sizes.append(matrix.shape[-1])
        return original(matrix, *rest, **named)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", counted)
    return sizes


def spent(sizes: list[int], work) -> int:
    before = len(sizes)
    work()
    return len(sizes) - before


def same_proof(one: VerifiedBounds, other: VerifiedBounds) -> None:
    assert one.fingerprint == other.fingerprint
    for norm, proved in one.norms.items():
        assert proved.rows == other.norms[norm].rows
        assert proved.body == other.norms[norm].body
        assert proved.product == other.norms[norm].product
        assert torch.equal(proved.pairs, other.norms[norm].pairs)


CHANGES = {
    "one weight": lambda net: net[2].weight.data[0, 0].add_(1.0),
    "a bias": lambda net: net[2].bias.data.add_(1.0),
    "a layer": lambda net: net.__setitem__(2, nn.Linear(12, 12)),
    "an activation": lambda net: net.__setitem__(3, nn.LeakyReLU(2.0)),
    "the last layer": lambda net: net[-1].weight.data.mul_(2.0),
    "two layers exchanged": lambda net: net[2].load_state_dict(
        {k: v.clone() for k, v in net[4].state_dict().items()}
    ),
    "precision": lambda net: net.double(),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_the_incremental_proof_is_that_of_a_fresh_one(name, factorizations):
    net = dense()
    kept = NetworkLipschitz(net, ["l2", "linf"], 3)
    kept.verified()
    CHANGES[name](net)
    found: list[VerifiedBounds] = []
    ours = spent(factorizations, lambda: found.append(kept.verified()))
    fresh = spent(factorizations, lambda: found.append(verify(net, ["l2", "linf"], 3)))
    same_proof(*found)
    assert fresh >= 3  # two layers that are alike are proved once
    most = {"one weight": 1, "a bias": 1, "a layer": 1, "the last layer": 1}.get(name, 0)
    assert ours <= most * (fresh // 4 + 1)


def test_one_changed_convolution_is_the_only_one_that_is_proved_again(factorizations):
    net = convolutional()
    kept = NetworkLipschitz(net, ["l2"], 3, (1, 4, 4))
    first = spent(factorizations, kept.verified)
    net[3].weight.data.mul_(1.5)
    found: list[VerifiedBounds] = []
    again = spent(factorizations, lambda: found.append(kept.verified()))
    same_proof(found[0], verify(net, ["l2"], 3, (1, 4, 4)))
    assert 0 < again < first / 2 + 1
    net[1].running_var.mul_(4.0)  # folded into the first convolution
    found.append(kept.verified())
    same_proof(found[1], verify(net, ["l2"], 3, (1, 4, 4)))
    kept.verified((1, 8, 8))
    same_proof(kept.verified((1, 8, 8)), verify(net, ["l2"], 3, (1, 8, 8)))
    tight = kept.verified((1, 4, 4), tight=True)
    same_proof(tight, verify(net, ["l2"], 3, (1, 4, 4), tight=True))


def test_what_was_not_used_twice_is_forgotten():
    net = dense()
    kept = NetworkLipschitz(net, ["l2"], 3)
    for _ in range(5):
        net[2].weight.data.add_(0.1)
        kept.verified()
    stored = kept.memory
    assert len(stored._now) + len(stored._before) <= 2 * (len(net) + 1)


def test_rules_and_layers_from_outside_are_always_asked(monkeypatch):
    class Outside(ScaleRule):
        asked = 0

        def verified(self, layer, norm):
            Outside.asked += 1
            return super().verified(layer, norm)

    monkeypatch.setattr(registry, "_RULES", {**registry._RULES, Scale: Outside()})
    net = nn.Sequential(Scale(2.0), nn.Linear(4, 3)).eval()
    kept = NetworkLipschitz(net, ["l2"], 3)
    for count in (1, 2):
        net[1].weight.data.add_(0.1)
        kept.verified()
        assert Outside.asked == count


def test_a_memory_that_does_not_read_the_numbers_is_found(monkeypatch):
    """The mutation: another weight of the same shape passes for the old one."""
    monkeypatch.setattr(memory, "content_of", lambda tensors: "")
    net = dense()
    kept = NetworkLipschitz(net, ["l2"], 3)
    kept.verified()
    net[0].weight.data.mul_(3.0)
    with pytest.raises(AssertionError):
        same_proof(kept.verified(), verify(net, ["l2"], 3))
