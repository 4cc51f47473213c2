"""Graphs of custom ``forward`` methods: bounds of sums, concatenations and branches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from relaxcert.errors import InvalidInput, StaleBounds, UnsupportedLayer
from relaxcert.heads import GloRoNet
from relaxcert.lipschitz import propagation, registry
from relaxcert.lipschitz.forward import forward_with_error
from relaxcert.lipschitz.network import NetworkLipschitz
from relaxcert.lipschitz.tracing import trace
from relaxcert.lipschitz.verified import verify
from relaxcert.nn.layers import MinMax
from relaxcert.spec import Local
from tests.lipschitz.exact import affine, exact_vector, forward
from tests.networks import NORMS, directions, linear, randn


class Branches(nn.Module):
    """Two branches, joined as told."""

    def __init__(self, joined: str, left: nn.Module, right: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.joined, self.left, self.right, self.last = joined, left, right, last

    def forward(self, inputs):
        left, right = self.left(inputs), self.right(inputs)
        if self.joined == "sum":
            return self.last(left + right)
        if self.joined == "difference":
            return self.last(torch.sub(left, right))
        return self.last(torch.cat([left, right], dim=1))


def branches(joined: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> Branches:
    width = 8 if joined == "concatenation" else 4
    return Branches(
        joined,
        nn.Sequential(linear(randn(seed, 4, 4), randn(seed + 1, 4), dtype), MinMax()),
        nn.Sequential(linear(3 * randn(seed + 2, 4, 4), dtype=dtype), nn.ReLU()),
        linear(randn(seed + 3, 3, width), dtype=dtype),
    )


KINDS = ("sum", "difference", "concatenation")


def largest_excess(backbone: nn.Module, norm: str, bounds) -> float:
    """The largest ratio of a sampled move of two logits against each other to its bound."""
    proved = bounds.norms[norm]
    worst = 0.0
    for point in randn(3, 6, 4):
        jacobian = torch.autograd.functional.jacobian(lambda x: backbone(x[None])[0], point)
        gradients = (jacobian[:, None] - jacobian[None]).reshape(-1, 4)
        moves = 0.1 * directions(norm, 4, 1, gradients)
        with torch.no_grad():
            change = backbone(point + moves) - backbone(point[None])
        difference = (change[:, :, None] - change[:, None, :]).abs()
        limit = 0.1 * proved.product * proved.pairs + 1e-12
        worst = max(worst, float((difference / limit).max()))
    return worst


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("joined", KINDS)
def test_bounds_hold_on_sampled_pairs(joined, norm):
    for seed in range(4):
        backbone = branches(joined, seed)
        assert largest_excess(backbone, norm, verify(backbone, [norm], 3)) <= 1.0


def identities(joined: str) -> Branches:
    eye = linear(torch.eye(2))
    last = linear(torch.eye(4 if joined == "concatenation" else 2))
    return Branches(joined, eye, linear(torch.eye(2)), last)


@pytest.mark.parametrize(
    ("joined", "norm", "wanted"),
    [
        ("sum", "l2", 2.0),
        ("sum", "linf", 2.0),
        ("sum", "l1", 2.0),
        ("concatenation", "l2", math.sqrt(2.0)),
        ("concatenation", "linf", 1.0),
        ("concatenation", "l1", 2.0),
    ],
)
def test_two_identities_have_the_known_constant(joined, norm, wanted):
    backbone = identities(joined)
    product = verify(backbone, [norm], len(backbone.last.weight)).norms[norm].product
    assert wanted <= product <= wanted * (1 + 1e-8)


def test_the_larger_in_place_of_the_sum_is_found(monkeypatch):
    backbone = identities("sum")
    monkeypatch.setattr(propagation, "add_up", max)
    assert verify(backbone, ["l2"], 2).norms["l2"].product < 1.1
    assert largest_excess_of_identity(backbone, verify(backbone, ["l2"], 2)) > 1.9


def test_the_larger_in_place_of_the_root_of_squares_is_found(monkeypatch):
    backbone = identities("concatenation")
    monkeypatch.setattr(propagation, "joined_up", lambda parts, norm: max(parts))
    assert verify(backbone, ["l2"], 4).norms["l2"].product < 1.1


def largest_excess_of_identity(backbone: nn.Module, bounds) -> float:
    with torch.no_grad():
        change = backbone(torch.tensor([[1.0, 0.0]]).double()) - backbone(
            torch.zeros(1, 2).double()
        )
    return float(change.norm()) / bounds.norms["l2"].product


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("joined", KINDS)
def test_stated_errors_cover_the_true_ones(joined, dtype):
    """Against the same weights in exact rational arithmetic."""
    backbone = branches(joined, 7, dtype).eval()
    inputs = randn(5, 4, 4, dtype=dtype)
    bounds = verify(backbone, NORMS, 3)
    with torch.no_grad():
        result = forward_with_error(inputs, trace(backbone), bounds)
    for place, point in enumerate(inputs):
        truth = exact_layers(backbone, exact_vector(point))
        computed = exact_vector(result.logits[place])
        errors = [a - b for a, b in zip(computed, truth, strict=True)]
        assert any(errors)
        slack = exact_vector(result.slack[place])
        for norm in NORMS:
            allowed = result.error[norm][place].item() * float(bounds.norms[norm].pairs.max())
            inside = [
                abs(errors[j] - errors[i]) - slack[j] - slack[i] for j in range(3) for i in range(j)
            ]
            assert max(inside) <= allowed


def exact_layers(backbone: Branches, inputs):
    left, right = forward(backbone.left, inputs), forward(backbone.right, inputs)
    sign = -1 if backbone.joined == "difference" else 1
    if backbone.joined == "concatenation":
        return affine(backbone.last, left + right)
    return affine(backbone.last, [a + sign * b for a, b in zip(left, right, strict=True)])


def test_a_sum_that_copies_numbers_is_refused():
    class Stretched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.four, self.last = nn.Linear(4, 1), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, inputs):
            return self.last(self.one(inputs) + self.four(inputs))

    net = GloRoNet(Stretched(), Local(eps=0.1))
    with pytest.raises(UnsupportedLayer, match="copies numbers"):
        net.certify(torch.zeros(2, 4))


def joins_points(inputs):
    return torch.cat([inputs, inputs], dim=-2)


class Calls(nn.Module):
    """One call in a ``forward`` method, then a linear layer."""

    def __init__(self, call) -> None:
        super().__init__()
        self.call, self.last = call, nn.Linear(4, 2)

    def forward(self, inputs):
        return self.last(self.call(inputs))


REFUSED = {
    "product of two": lambda x: x * x,
    "matrix product": lambda x: x @ x.T,
    "softmax": lambda x: x.softmax(1),
    "in place": lambda x: x.relu_(),
    "in-place sum": lambda x: x.__iadd__(x),
    "sum with a number": lambda x: x + 1.0,
    "index": lambda x: x[:, 0],
    "batch size from the sizes": lambda x: x.reshape(-1, 4),
    "batch statistics": lambda x: x - x.mean(0),
    "concatenation of points": lambda x: torch.cat([x, x]),
    "control flow": lambda x: x if x.sum() > 0 else -x,
    "length": lambda x: x[: len(x)],
    "scaled sum": lambda x: torch.add(x, x, alpha=100.0),
    "division by a tensor": lambda x: 1.0 / x,
    "a constant": lambda x: torch.ones(2, 4),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_not_understood_is_refused(name):
    with pytest.raises(UnsupportedLayer):
        trace(Calls(REFUSED[name]))


def test_concatenated_points_are_refused_when_the_dimension_turns_out_to_be_the_batch():
    net = GloRoNet(Calls(joins_points), Local(eps=0.1))
    with pytest.raises(UnsupportedLayer, match="batch"):
        net.certify(torch.zeros(2, 4))


def test_an_in_place_layer_beside_another_reader_is_refused():
    class Overwritten(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.last = nn.ReLU(inplace=True), nn.Linear(4, 2)

        def forward(self, inputs):
            self.relu(inputs)
            return self.last(inputs)

    with pytest.raises(UnsupportedLayer, match="in place"):
        trace(Overwritten())
    trace(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2)))


def test_control_flow_is_refused_with_the_module_named():
    inner = Calls(REFUSED["control flow"])
    with pytest.raises(UnsupportedLayer, match=r"backbone\.1 \(Calls\)"):
        trace(nn.Sequential(nn.ReLU(), inner))


def test_a_module_that_holds_itself_is_refused():
    backbone = nn.Sequential(nn.Linear(4, 4))
    backbone.add_module("again", backbone)
    with pytest.raises(UnsupportedLayer, match="holds itself"):
        GloRoNet(backbone, Local(eps=0.1))


class PerPixel(nn.Module):
    """A user's layer whose constant depends on the size of its input: x -> sum over places."""

    def forward(self, inputs):
        return inputs.sum(2)


class PerPixelRule(registry.Rule[PerPixel]):
    needs_shape = True

    def __init__(self, shape=None) -> None:
        self.shape = shape

    def at(self, shape):
        return PerPixelRule(shape)

    def verified(self, layer, norm):
        places = self.shape[1]
        return registry.Bound({"l2": math.sqrt(places) * 1.0001, "l1": 1.0}.get(norm, places), "n")

    def estimate(self, layer, norm, iterate):
        return float(self.verified(layer, norm).value), None

    def rounding(self, layer, norm):
        return registry.Rounding(operations=100, input_gain=self.verified(layer, norm).value)


@pytest.fixture
def per_pixel(monkeypatch):
    monkeypatch.setattr(registry, "_RULES", {**registry._RULES, PerPixel: PerPixelRule()})
    return nn.Sequential(PerPixel(), nn.Linear(4, 2)).eval()


def test_bounds_of_one_shape_are_never_used_for_another(per_pixel):
    net = GloRoNet(per_pixel, Local(eps=0.1)).eval()
    with pytest.raises(InvalidInput, match="input_shape"):
        net.verify()
    net.certify(torch.zeros(2, 4, 4))
    small = net.verify()
    assert small.norms["l2"].product == pytest.approx(2.0, rel=1e-3)
    net.certify(torch.zeros(2, 4, 100))
    assert net.verify().norms["l2"].product >= 10.0
    net(torch.zeros(2, 4, 4))
    assert net.verify().norms["l2"].product == pytest.approx(2.0, rel=1e-3)
    with pytest.raises(StaleBounds, match="proved for"):
        forward_with_error(torch.zeros(1, 4, 100).double(), small.exact, small)


def test_the_shape_may_be_given_when_the_network_is_built(per_pixel):
    net = GloRoNet(per_pixel, Local(eps=0.1), input_shape=(4, 9))
    assert net.verify().input_shape == (4, 9)
    assert net.verify().norms["l2"].product == pytest.approx(3.0, rel=1e-3)
    with pytest.raises(InvalidInput, match="positive sizes"):
        GloRoNet(per_pixel, Local(eps=0.1), input_shape=(0, 9))


def test_a_replaced_module_of_a_custom_forward_is_noticed():
    backbone = branches("sum")
    kept = NetworkLipschitz(backbone, ["l2"], 3)
    before = kept.verified()
    assert kept.verified() is before
    backbone.right = nn.Sequential(linear(50 * torch.eye(4)), nn.ReLU())
    assert kept.verified().norms["l2"].product >= 50.0
    backbone.joined = "difference"
    assert kept.live_graph().nodes[5].sign == -1


def test_a_forward_that_depends_on_a_global_is_traced_anew():
    scales = [1.0]
    backbone = Calls(lambda x: x * scales[0])
    kept = NetworkLipschitz(backbone, ["l2"], 2)
    assert kept.verified().norms["l2"].product == 1.0
    scales[0] = 2.0
    assert kept.verified().norms["l2"].product == 2.0
