"""Exported networks: certified in onnxruntime implies certified, also right at the margin."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxcert.heads import GloRoNet
from relaxcert.heads.evaluation import running_output
from relaxcert.interop.onnx_export import backbone, links
from relaxcert.nn.layers import MinMax
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, Targeted
from tests.interop.exported import Exported, at_the_margin, violations
from tests.networks import NORMS, every_kind, linear, randn, random_backbone

KINDS = range(len(every_kind(4)))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_property(kind, norm):
    prop = every_kind(4, 0.1, norm)[kind]
    activation = MinMax if kind % 2 else nn.ReLU
    net = GloRoNet(random_backbone(kind, activation=activation, normalise=True), prop).eval()
    exported = Exported(net)
    inputs = randn(3, 1000, 4, dtype=torch.float32) * 3
    found, proved = exported(inputs), net.certify(inputs)
    assert proved.certified.any()
    assert not proved.certified.all()
    assert not violations(found, proved).any()
    # And hardly less: whatever is not within rounding of the margin.
    clear = proved.certified & (proved.margin > 1e-4)
    assert bool((found.certified == proved.certified)[clear | ~proved.certified].all())
    assert torch.equal(found.set[found.certified], proved.sets[found.certified])
    assert torch.equal(found.k[found.certified], proved.k[found.certified])
    torch.testing.assert_close(found.radius, proved.radius, rtol=1e-3, atol=1e-4)
    # The logits are the network's, and bottom wins exactly where nothing is certified.
    torch.testing.assert_close(found.logits[:, :4].double(), proved.logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.logits.argmax(1) != 4, found.certified)
    with torch.no_grad():
        graph = net.lipschitz.current_graph((4,))
        running = running_output(inputs, graph, net.verify((4,)), net.head)
    torch.testing.assert_close(found.logits, running, rtol=1e-4, atol=1e-4)


def network(seed: int, make, *, scale: float = 1.0, bias: float = 0.0, hidden=(24, 24)):
    """A network of 8 features, and points; eps is such that about half of them are certified."""
    layers = random_backbone(seed, 8, hidden, 4, activation=(nn.ReLU, MinMax)[seed % 2])
    with torch.no_grad():
        layers[-1].weight.mul_(scale)
        layers[-1].bias.add_(bias)
    inputs = randn(seed, 600, 8, dtype=torch.float32)
    radius = GloRoNet(layers, make(1e-30)).certify(inputs).radius
    eps = float(radius[radius > 0].median())
    return GloRoNet(layers, make(eps)).eval(), inputs


LINEAR = linear([[0.1, 0.2], [0.3, -0.2], [-0.4, 0.1]], [1e5, 1e5, 1e5], dtype=torch.float32)
HALVES = AffinitySets([[0, 1], [2, 3]], 4)
MAKERS = {
    "relu": lambda: network(2, lambda eps: Local(eps=eps)),
    "linf": lambda: network(1, lambda eps: RelaxedTopK(2, eps=eps, norm="linf")),
    "small logits": lambda: network(
        3, lambda eps: Affinity(HALVES, eps=eps), scale=1e-3, bias=99.0
    ),
    "large logits": lambda: network(
        4, lambda eps: RelaxedTopK(3, eps=eps, norm="l1", quantifier="pointwise"), scale=1e4
    ),
    "deep, large biases": lambda: network(
        5, lambda eps: Local(eps=eps), bias=2.0**12, hidden=(64,) * 4
    ),
    "composition": lambda: network(
        6, lambda eps: RelaxedTopK(3, eps=eps) & Targeted.neighbours([0, 1, 2, 3], eps=eps / 2)
    ),
    "linear": lambda: (
        GloRoNet(nn.Sequential(LINEAR), Local(eps=0.3)).eval(),
        randn(5, 600, 2, dtype=torch.float32),
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_points_at_the_margin(name):
    net, inputs = MAKERS[name]()
    edge = at_the_margin(net, inputs)
    proved = net.certify(edge)
    # On both sides, with margins within float32 noise of 0.
    assert proved.certified.any()
    assert not proved.certified.all()
    size = proved.logits.abs().amax(1)
    assert float((proved.margin.abs() < 1e-5 * size).double().mean()) > 0.4
    for optimised in (False, True):
        found = Exported(net, optimised=optimised)(edge)
        assert not violations(found, proved).any()
        assert torch.equal(found.logits.argmax(1) != net.num_classes, found.certified)


@pytest.mark.parametrize("name", MAKERS)
def test_without_its_allowance_the_same_points_are_violations(name, monkeypatch):
    """The test above can fail: float32 alone certifies points that are not."""
    net, inputs = MAKERS[name]()
    edge = at_the_margin(net, inputs)
    monkeypatch.setattr(backbone, "gamma", lambda operations, unit: 0.0)
    monkeypatch.setattr(backbone, "UNIT", dict.fromkeys(backbone.UNIT, 0.0))
    monkeypatch.setattr(links, "_ANOTHER_PROOF", 1.0)
    assert violations(Exported(net)(edge), net.certify(edge)).any()


def test_float64_networks_are_as_sharp_as_certify():
    net, inputs = MAKERS["relu"]()
    net, inputs = net.double(), inputs.double()
    edge = torch.cat((inputs, at_the_margin(net, inputs)))
    proved = net.certify(edge)
    found = Exported(net)(edge)
    assert found.logits.dtype == torch.float64
    assert not violations(found, proved).any()
    clear = proved.certified & (proved.margin > 1e-6)
    assert clear.any()
    assert bool(found.certified[clear].all())


class Branches(nn.Module):
    """A residual sum, a difference and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = linear(randn(1, 6, 6) / 3), linear(randn(2, 6, 6) / 3)
        self.last = linear(randn(3, 4, 12))
        self.activation = MinMax()

    def forward(self, inputs):
        left = self.activation(self.one(inputs)) + inputs
        right = self.two(left) - left
        return self.last(torch.cat((left, right), dim=1))


@pytest.mark.parametrize("norm", NORMS)
def test_networks_with_branches(norm):
    inputs = randn(1, 600, 6, dtype=torch.float32)
    tiny = RelaxedTopK(2, eps=1e-30, norm=norm)
    radius = GloRoNet(Branches().float(), tiny).certify(inputs).radius
    prop = RelaxedTopK(2, eps=float(radius[radius > 0].median()), norm=norm)
    net = GloRoNet(Branches().float(), prop).eval()
    exported = Exported(net, input_shape=(6,))
    edge = torch.cat((inputs, at_the_margin(net, inputs)))
    found, proved = exported(edge), net.certify(edge)
    assert found.certified.any()
    assert not violations(found, proved).any()
    torch.testing.assert_close(found.logits[:, :4].double(), proved.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_batch_is_free(count):
    net, _ = MAKERS["relu"]()
    inputs = randn(1, count, 8, dtype=torch.float32)
    found, every = Exported(net)(inputs), Exported(net)(randn(1, 7, 8, dtype=torch.float32))
    assert found.logits.shape == (count, 5)
    assert found.set.shape == (count, 4)
    assert [tuple(v.shape) for v in (found.certified, found.k, found.radius)] == [(count,)] * 3
    assert every.logits.shape == (7, 5)


def test_points_that_are_not_finite_or_overflow_are_answered_by_bottom():
    for name in ("relu", "linf", "large logits", "composition"):
        net, _ = MAKERS[name]()
        inputs = randn(1, 6, 8, dtype=torch.float32)
        inputs[0, 0] = torch.nan
        inputs[1, 3] = torch.inf
        inputs[2, 5] = -torch.inf
        inputs[3] = torch.finfo(torch.float32).max
        inputs[4] = -torch.finfo(torch.float32).max
        found = Exported(net)(inputs)
        assert not found.certified[:5].any()
        assert not found.logits.isnan().any()
        assert bool((found.logits[:5].argmax(1) == 4).all())
        assert not found.set[:5].any()
        assert bool((found.radius[:5] == 0).all())
        assert not violations(found, net.certify(inputs))[5:].any()


def test_ties_are_never_certified():
    layer = linear([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float32)
    for prop in (Local(eps=1e-6), RelaxedTopK(2, eps=1e-6)):
        net = GloRoNet(nn.Sequential(layer), prop).eval()
        inputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.0, 0.0]])
        found = Exported(net)(inputs)
        assert torch.equal(found.certified, net.certify(inputs).certified)
        assert not found.certified[2:].any()


def test_constants_have_infinite_radius():
    layer = linear([[0.0, 0.0], [0.0, 0.0]], [1.0, 0.0], dtype=torch.float32)
    net = GloRoNet(nn.Sequential(layer), Local(eps=0.5)).eval()
    inputs = randn(1, 3, 2, dtype=torch.float32)
    found = Exported(net)(inputs)
    assert found.certified.all()
    assert torch.equal(found.radius, net.certify(inputs).radius)
