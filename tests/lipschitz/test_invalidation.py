"""A bound lives exactly as long as the numbers that it was proved for."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from relaxcert import lipschitz
from relaxcert.errors import InvalidWeights, UnsupportedPrecision
from relaxcert.lipschitz import fingerprint, registry
from relaxcert.lipschitz.network import NetworkLipschitz
from relaxcert.lipschitz.verified import verify
from relaxcert.nn.layers import InputNormalisation, MinMax
from tests.networks import randn


def backbone() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        InputNormalisation(0.5, 0.5), nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)
    )


def through_data(net: nn.Sequential) -> None:
    net[2].weight.data[0, 0] += 1e-7


def through_raw_storage(net: nn.Sequential) -> None:
    net[2].weight.detach().numpy()[0, 0] *= 2


def optimiser(net: nn.Sequential) -> None:
    net(torch.ones(1, 4)).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()


CHANGES = {
    "p.data": through_data,
    "raw storage": through_raw_storage,
    "optimiser": optimiser,
    "bias only": lambda net: net[4].bias.data.add_(1.0),
    "load_state_dict": lambda net: net.load_state_dict(
        {k: v + 1 for k, v in net.state_dict().items()}
    ),
    "load_state_dict assign": lambda net: net.load_state_dict(
        {k: v + 1 for k, v in net.state_dict().items()}, assign=True
    ),
    "double": lambda net: net.double(),
    "layer replaced": lambda net: net.__setitem__(3, MinMax()),
    "layer appended": lambda net: net.append(nn.ReLU()),
    "linear replaced": lambda net: net.__setitem__(2, nn.Linear(4, 4)),
    "parameter replaced": lambda net: setattr(net[2], "weight", nn.Parameter(torch.ones(4, 4))),
    "bias dropped": lambda net: setattr(net[2], "bias", None),
    "buffer changed": lambda net: net[0].std.fill_(0.01),
    "buffer replaced": lambda net: setattr(net[0], "mean", torch.tensor(0.25)),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_every_change_makes_the_bounds_be_proved_again(name):
    net = backbone()
    kept = NetworkLipschitz(net, ["l2"], 3)
    before = kept.verified()
    assert kept.verified() is before
    CHANGES[name](net)
    after = kept.verified()
    assert after is not before
    assert after.fingerprint != before.fingerprint
    fresh = verify(net, ["l2"], 3)
    assert after.norms["l2"].product == fresh.norms["l2"].product
    assert torch.equal(after.norms["l2"].pairs, fresh.norms["l2"].pairs)


def test_nothing_changed_gives_the_same_object_and_the_proof_is_not_repeated(monkeypatch):
    net = backbone()
    kept = NetworkLipschitz(net, ["l2", "linf", "l2"], 3)
    before = kept.verified()
    monkeypatch.setattr(lipschitz.network, "verify", None)
    net(torch.ones(2, 4))
    net.train()
    net.eval()
    net.load_state_dict({k: v.clone() for k, v in net.state_dict().items()})
    assert kept.verified() is before
    assert list(before.norms) == ["l2", "linf"]


def test_a_failed_proof_leaves_no_bounds_behind():
    net = backbone()
    kept = NetworkLipschitz(net, ["l2"], 3)
    kept.verified()
    net[2].weight.data[0, 0] = math.nan
    for _ in range(2):
        with pytest.raises(InvalidWeights):
            kept.verified()
    assert kept.present is None


def test_the_snapshot_and_the_exact_copy_do_not_follow_the_live_weights():
    net = backbone()
    bounds = NetworkLipschitz(net, ["l2"], 3).verified()
    frozen = [tensor.clone() for tensor in bounds.snapshot]
    logits = bounds.exact.last_weight.clone()
    for parameter in net.parameters():
        parameter.data.mul_(100)
    assert all(torch.equal(a, b) for a, b in zip(bounds.snapshot, frozen, strict=True))
    assert torch.equal(bounds.exact.last_weight, logits)


def test_the_bounds_are_the_same_in_train_mode_and_leave_the_mode_alone():
    net = backbone().train()
    bounds = verify(net, ["l2"], 3)
    assert net.training
    assert not any(node.layer.training for node in bounds.exact.layers)


class Scale(nn.Module):
    """A user's layer that keeps its numbers in every way that Python allows."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = 1.0
        self._hidden = 1.0
        self.listed = [1.0]
        self.named = {"a": 1.0}
        self.tensor = torch.tensor(1.0)
        self.register_buffer("buffered", torch.tensor(1.0), persistent=False)

    def total(self) -> float:
        parts = (self.factor, self._hidden, self.listed[0], self.named["a"])
        return math.prod(parts) * float(self.tensor) * float(self.buffered)

    def forward(self, inputs):
        return inputs * self.total()


class ScaleRule(lipschitz.Rule[Scale]):
    def verified(self, layer, norm):
        return lipschitz.Bound(abs(layer.total()), "product")

    def estimate(self, layer, norm, iterate):
        return abs(layer.total()), None

    def rounding(self, layer, norm):
        return lipschitz.Rounding(operations=2, output_gain=1.0)


SETTERS = {
    "plain": lambda layer: setattr(layer, "factor", 50.0),
    "private": lambda layer: setattr(layer, "_hidden", 50.0),
    "list": lambda layer: layer.listed.__setitem__(0, 50.0),
    "dict": lambda layer: layer.named.update(a=50.0),
    "tensor that is no buffer": lambda layer: layer.tensor.fill_(50.0),
    "buffer": lambda layer: layer.buffered.fill_(50.0),
}


@pytest.mark.parametrize("name", list(SETTERS))
def test_changed_attributes_of_a_custom_layer_make_the_bounds_be_proved_again(name, monkeypatch):
    monkeypatch.setattr(registry, "_RULES", {**registry._RULES, Scale: ScaleRule()})
    net = nn.Sequential(Scale(), nn.Linear(4, 3))
    kept = NetworkLipschitz(net, ["l2"], 3)
    before = kept.verified()
    assert kept.verified() is before
    SETTERS[name](net[0])
    assert kept.verified() is not before
    assert kept.verified().norms["l2"].product >= 50.0
    assert kept.verified().fingerprint != before.fingerprint


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["2.weight", "2.bias", "4.weight", "4.bias", "0.std", "0.mean"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_numbers_that_are_not_finite_are_refused_by_name(bad, place, norm):
    net = backbone()
    net.state_dict()[place].flatten()[0] = bad
    kind = place.split(".")[1]
    with pytest.raises(InvalidWeights, match=kind):
        verify(net, [norm], 3)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_empty_weights_are_refused(sizes):
    net = nn.Sequential(nn.Linear(*sizes), nn.Linear(sizes[1], 3))
    with pytest.raises(InvalidWeights, match="empty"):
        verify(net, ["l2"], 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_weights_without_rounding_analysis_are_refused_by_name(dtype):
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3).to(torch.float32))
    net[1].weight = nn.Parameter(randn(1, 3, 4).to(dtype))
    with pytest.raises(UnsupportedPrecision, match=r"1\.weight has dtype"):
        verify(net, ["l2"], 3)


class Quantised(torch.Tensor):
    """Weights that compute products in a way of their own, as those of quantisation libraries."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs or {})
        return result.round() if func is nn.functional.linear else result


def test_weights_with_products_of_their_own_are_refused_by_name():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    net[1].weight = nn.Parameter(randn(1, 3, 4).float().as_subclass(Quantised))
    with pytest.raises(UnsupportedPrecision, match=r"1\.weight is a Quantised"):
        verify(net, ["l2"], 3)


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_weights_are_refused_by_name():
    net = nn.Sequential(nn.Linear(4, 3))
    net[0].weight = nn.Parameter(net[0].weight.detach().to_sparse())
    with pytest.raises(UnsupportedPrecision, match=r"0\.weight is a Parameter of layout"):
        verify(net, ["l2"], 3)


def test_nothing_is_proved_while_subnormal_numbers_are_flushed_to_zero():
    net = nn.Sequential(nn.Linear(2, 2, bias=False)).double()
    net[0].weight.data = 1e-310 * torch.eye(2, dtype=torch.float64)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormal numbers")
    try:
        with pytest.raises(UnsupportedPrecision, match="flush"):
            verify(net, ["l2"], 2)
    finally:
        torch.set_flush_denormal(False)
    assert float(verify(net, ["l2"], 2).norms["l2"].pairs[0, 1]) >= 1.4e-310


def test_fingerprints_tell_values_types_shapes_and_structure_apart():
    net = backbone()
    assert fingerprint(net) == fingerprint(copy.deepcopy(net))
    others = [copy.deepcopy(net) for _ in range(3)]
    others[0].double()
    others[1][3] = nn.Identity()
    others[2][2].weight.data[3, 3] = torch.nextafter(
        others[2][2].weight.data[3, 3], torch.tensor(9.0)
    )
    assert len({fingerprint(net), *map(fingerprint, others)}) == 4
