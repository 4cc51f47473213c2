"""Changes after a proof that leave every number as it was, and yet make another function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz import registry
from relaxcert.lipschitz.network import NetworkLipschitz
from relaxcert.lipschitz.rules_scaling import ScaleRule
from relaxcert.lipschitz.structure import settings_of
from relaxcert.lipschitz.verified import verify
from relaxcert.nn.shapes import Scale


def scaled(factor: float) -> nn.Linear:
    layer = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(factor * torch.eye(4))
    return layer


def tied() -> nn.Sequential:
    """Factors 0.1, 0.1, 10; the numbers that are stored: 0.1 and 10."""
    first, second, third = scaled(0.1), scaled(0.1), scaled(10.0)
    second.weight = first.weight
    layers = [first, nn.ReLU(), second, nn.ReLU(), third, nn.ReLU()]
    return nn.Sequential(*layers, scaled(1.0)).eval()


def tie_otherwise(net: nn.Sequential) -> None:
    net[2].weight = net[4].weight


def shifted() -> nn.Sequential:
    """A normalisation with a bias of 10 and no weight."""
    layer = nn.BatchNorm1d(4)
    layer.weight, layer.bias = None, nn.Parameter(torch.full((4,), 10.0))
    return nn.Sequential(layer, nn.ReLU(), scaled(1.0)).eval()


def bias_becomes_weight(net: nn.Sequential) -> None:
    net[0].weight, net[0].bias = net[0].bias, None


def ordered() -> nn.Sequential:
    layer = nn.BatchNorm1d(4)
    layer.weight.data.fill_(0.5)
    layer.bias.data.fill_(10.0)
    return nn.Sequential(layer, nn.ReLU(), scaled(1.0)).eval()


def registered_in_another_order(net: nn.Sequential) -> None:
    """The numbers follow each other as before: 0.5, then 10."""
    weight, bias = net[0].weight, net[0].bias
    del net[0].weight, net[0].bias
    net[0].bias = weight
    net[0].weight = bias


def of_numpy() -> nn.Sequential:
    return nn.Sequential(scaled(1.0), nn.LeakyReLU(np.float32(0.5)), scaled(1.0)).eval()


def numpy_changed(net: nn.Sequential) -> None:
    net[1].negative_slope = np.float32(8.0)


CHANGES = {
    "weights shared by others": (tied, tie_otherwise),
    "a bias becomes a weight": (shifted, bias_becomes_weight),
    "another order": (ordered, registered_in_another_order),
    "a number of numpy": (of_numpy, numpy_changed),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_the_bounds_are_those_of_the_changed_network(name):
    made, change = CHANGES[name]
    net = made()
    kept = NetworkLipschitz(net, ["l2"], 4, (4,))
    before = kept.verified()
    change(net)
    after, fresh = kept.verified(), verify(net, ["l2"], 4, (4,))
    assert fresh.norms["l2"].product >= 4.0 * before.norms["l2"].product
    assert after.norms["l2"].product == fresh.norms["l2"].product
    assert after.fingerprint == fresh.fingerprint != before.fingerprint
    assert kept.verified() is after


@pytest.mark.parametrize("name", list(CHANGES))
def test_proofs_of_single_layers_are_not_mistaken_for_each_other(name):
    made, change = CHANGES[name]
    net = made()
    kept = NetworkLipschitz(net, ["l2"], 4, (4,))
    kept.verified()
    change(net)
    kept.present = None
    assert kept.verified().norms["l2"].rows == verify(net, ["l2"], 4, (4,)).norms["l2"].rows


def test_another_rule_proves_anew(monkeypatch):
    class Doubled(ScaleRule):
        def verified(self, layer, norm):
            found = super().verified(layer, norm)
            return registry.Bound(2.0 * found.value, found.method)

    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    monkeypatch.setattr(registry, "_FORWARDS", dict(registry._FORWARDS))
    net = nn.Sequential(Scale(2.0), nn.ReLU(), scaled(1.0)).eval()
    kept = NetworkLipschitz(net, ["l2"], 4)
    assert kept.verified().norms["l2"].product < 2.001
    registry.rule(Scale)(Doubled)
    assert kept.verified().norms["l2"].product >= 4.0


def test_a_class_whose_forward_was_replaced_is_refused(monkeypatch):
    net = nn.Sequential(scaled(1.0), nn.ReLU(), scaled(1.0)).eval()
    kept = NetworkLipschitz(net, ["l2"], 4)
    kept.verified()
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, inputs: 9.0 * inputs)
    with pytest.raises(UnsupportedLayer, match="forward method of its own"):
        kept.verified()
    with pytest.raises(UnsupportedLayer, match="forward method of its own"):
        NetworkLipschitz(nn.Sequential(nn.ReLU(), scaled(1.0)), ["l2"], 4)


def test_settings_tell_every_digit_of_tensors_inside_others():
    def settings(value: object):
        layer = nn.ReLU()
        layer.kept = value
        return settings_of(layer)

    for wrap in (
        lambda number: [torch.tensor(number)],
        lambda number: {"a": (np.full(2000, number),)},
        np.array,
    ):
        assert settings(wrap(0.1)) == settings(wrap(0.1))
        assert settings(wrap(0.1)) != settings(wrap(0.1000001))


def test_numbers_of_an_array_are_watched():
    layer = Scale(2.0)
    layer.kept = np.ones(3)
    net = nn.Sequential(layer, scaled(1.0)).eval()
    kept = NetworkLipschitz(net, ["l2"], 4)
    before = kept.verified()
    assert kept.verified() is before
    layer.kept[1] = 2.0
    assert kept.verified() is not before
