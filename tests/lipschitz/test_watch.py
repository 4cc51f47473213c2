"""The quick look at a backbone: whatever the slow comparison sees, it sees as well."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from relaxcert.lipschitz import network
from relaxcert.lipschitz.network import NetworkLipschitz
from relaxcert.lipschitz.structure import Watch, structure_of
from relaxcert.nn.layers import InputNormalisation, MinMax


class Own(nn.Module):
    """A layer with attributes of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.number, self.text, self.large = 1.0, "a", 10**6
        self.listed, self.named, self.nested = [1.0, [2.0]], {"a": [1.0]}, (1, [2.0])
        self.tensor, self.function = torch.ones(2), torch.relu

    def forward(self, inputs):
        return inputs


def backbone() -> nn.Sequential:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.1))
    return nn.Sequential(InputNormalisation(0.5, 0.5), inner, MinMax(), Own(), nn.Linear(4, 3))


SEEN_BY_BOTH = {
    "layer replaced": lambda net: net.__setitem__(2, nn.ReLU()),
    "layer replaced by its like": lambda net: net.__setitem__(2, MinMax()),
    "inner layer replaced": lambda net: net[1].__setitem__(1, nn.LeakyReLU(0.1)),
    "layer appended": lambda net: net.append(nn.ReLU()),
    "layer removed": lambda net: net.__delitem__(2),
    "renamed": lambda net: net._modules.update(z=net._modules.pop("4")),
    "type changed": lambda net: setattr(net[2], "__class__", nn.ReLU),
    "setting": lambda net: setattr(net[1][1], "negative_slope", 0.5),
    "number": lambda net: setattr(net[3], "number", 2.0),
    "text": lambda net: setattr(net[3], "text", "b"),
    "list": lambda net: net[3].listed[1].append(3.0),
    "dict": lambda net: net[3].named["a"].append(3.0),
    "list in a tuple": lambda net: net[3].nested[1].append(3.0),
    "tensor": lambda net: net[3].tensor.mul_(2.0),
    "attribute added": lambda net: setattr(net[3], "new", 1),
    "attribute removed": lambda net: delattr(net[3], "text"),
    "no plain value any more": lambda net: setattr(net[3], "text", object()),
    "a plain value now": lambda net: setattr(net[3], "function", 1.0),
}
REFUSED = {
    "hook": lambda net: net[2].register_forward_hook(lambda *_: None),
    "hook on a container": lambda net: net[1].register_forward_hook(lambda *_: None),
    "hook before": lambda net: net[2].register_forward_pre_hook(lambda *_: None),
    "own forward": lambda net: setattr(net[2], "forward", lambda x: x),
}


@pytest.mark.parametrize("name", [*SEEN_BY_BOTH, *REFUSED])
def test_what_the_slow_comparison_sees_is_seen(name):
    net = backbone()
    watch, before = Watch(net), structure_of(net)
    assert watch.is_same()
    (SEEN_BY_BOTH | REFUSED)[name](net)
    assert not watch.is_same()
    if name in SEEN_BY_BOTH:
        assert structure_of(net) != before


def test_a_hook_on_all_modules_is_seen():
    watch = Watch(backbone())
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert not watch.is_same()
    finally:
        handle.remove()
    assert watch.is_same()


def test_modes_weights_and_copies_leave_it_the_same():
    net = backbone()
    watch = Watch(net)
    net.eval()
    net[1][0].weight.data.add_(1.0)
    assert watch.is_same()
    again = copy.deepcopy(watch)
    assert again.parts[0].module is not net
    assert watch.is_same()


def test_nothing_is_looked_at_twice_while_nothing_changes(monkeypatch):
    net = backbone()
    del net[3]
    kept = NetworkLipschitz(net.eval(), ["l2"], 3)
    bounds = kept.verified()
    monkeypatch.setattr(network, "structure_of", None)
    monkeypatch.setattr(network, "trace", None)
    assert kept.verified() is bounds


def test_a_watch_that_always_agrees_is_found(monkeypatch):
    """The mutation: bounds of another slope would be kept."""
    net = nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(2.0), nn.Linear(4, 3)).eval()
    kept = NetworkLipschitz(net, ["l2"], 3)
    before = kept.verified().norms["l2"].product
    net[1].negative_slope = 4.0
    assert kept.verified().norms["l2"].product > before
    monkeypatch.setattr(Watch, "is_same", lambda self: True)
    before = kept.verified().norms["l2"].product
    net[1].negative_slope = 8.0
    assert kept.verified().norms["l2"].product == before
