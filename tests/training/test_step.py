"""One step of training: by parts, in bfloat16, compiled; each against the plain whole batch."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.nn.orthogonal import orthogonalised
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK
from relaxcert.training import fit
from relaxcert.training.objective import Gradient, Objective
from tests.networks import randn
from tests.training.toy import CLASSES, blobs, network, same_weights, settings

LOSSES = ("cross-entropy", "trades", "certified-set")
PROPERTIES = {
    "local": Local(eps=0.1),
    "affinity": Affinity(AffinitySets([[0, 1], [2, 3]], CLASSES), eps=0.1),
    "pointwise": RelaxedTopK(2, eps=0.1, quantifier="pointwise"),
}


def gradient_of(net: GloRoNet, points: int = 23, **more: object) -> tuple[torch.Tensor, ...]:
    """Loss and gradients of one batch; the network keeps its power iterates."""
    net.train()
    for weights in net.parameters():
        weights.grad = None
    loss = Gradient(net, settings(batch_size=points, **more)).add(*blobs(points), 0.7)
    return (loss, *(weights.grad for weights in net.backbone.parameters()))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("parts", [2, 5, 23])
def test_the_gradient_of_parts_is_that_of_the_whole_batch(loss, parts):
    """23 points divide into no equal parts, so that unweighted means would differ."""
    whole, by_parts = network().double(), network().double()
    points, labels = blobs(23)
    for net, accumulate in ((whole, 1), (by_parts, parts)):
        for _ in range(2):
            chosen = settings(batch_size=23, loss=loss, accumulate=accumulate)
            Gradient(net.train(), chosen).add(points.double(), labels, 0.7)
    for one, other in zip(whole.parameters(), by_parts.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-14)
    for one, other in zip(whole.buffers(), by_parts.buffers(), strict=True):
        assert torch.equal(one, other)
    assert by_parts.lipschitz.training


def test_parts_that_are_not_weighted_by_their_size_would_be_seen():
    net = network().double()
    points, labels = (tensor[:5] for tensor in blobs(23))
    chosen = settings(batch_size=5, accumulate=2)
    net.train().lipschitz.eval()
    objective = Objective(net, chosen)
    weight = torch.tensor(1.0)
    parts = zip(points.double().split(3), labels.split(3), strict=True)
    unweighted = torch.stack([objective(*part, weight) for part in parts]).mean()
    net.lipschitz.train()
    right = Gradient(net, chosen).add(points.double(), labels, 1.0)
    assert abs(float(unweighted.detach() - right)) > 1e-6


def test_training_by_parts_gives_the_network_of_whole_batches():
    whole, by_parts = network(), network()
    fit(whole, blobs(), settings(3), progress=False)
    fit(by_parts, blobs(), settings(3, accumulate=3), progress=False)
    assert not same_weights(whole, by_parts)  # another order of sums: it was not the same work
    for one, other in zip(whole.parameters(), by_parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_more_parts_than_points_are_refused():
    with pytest.raises(InvalidInput, match=r"accumulate=17 .*batch_size=16"):
        fit(network(), blobs(), settings(1, accumulate=17), progress=False)


class LayersProducts(TorchDispatchMode):
    """The dtypes in which nn.Linear layers multiply (W x + b is one operation)."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.addmm.default:
            self.dtypes.add(found.dtype)
        return found


@pytest.mark.parametrize("loss", LOSSES)
def test_bf16_reaches_the_backbone_and_nothing_else(loss, monkeypatch):
    net = network()
    heard = []
    estimated = type(net.lipschitz).estimated

    def listening(self, shape=None):
        heard.append(torch.is_autocast_enabled("cpu"))
        found = estimated(self, shape)
        heard.extend(product.dtype for product, _ in found.values())
        return found

    monkeypatch.setattr(type(net.lipschitz), "estimated", listening)
    with LayersProducts() as products:
        value, *gradients = gradient_of(net, loss=loss, precision="bf16")
    assert products.dtypes == {torch.bfloat16}
    assert heard == [False, torch.float32]
    assert value.dtype == torch.float32
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    exact, *_ = gradient_of(network(), loss=loss)
    assert 0 < abs(float(value - exact)) < 0.05 * float(exact)


def test_the_power_iterates_are_those_of_float32_whatever_the_precision():
    plain, reduced = network(), network()
    gradient_of(plain)
    gradient_of(reduced, precision="bf16")
    for one, other in zip(plain.buffers(), reduced.buffers(), strict=True):
        assert torch.equal(one, other)


def test_orthogonal_weights_stay_orthogonal_under_autocast():
    layer = orthogonalised(network(hidden=(8, 8)).backbone)[3]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(randn(1, 3, 8, dtype=torch.float32)).dtype == torch.bfloat16
        weight = layer.weight
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight.mT @ weight, torch.eye(8), rtol=0, atol=1e-5)


def test_a_network_trained_in_bf16_certifies_as_one_in_float32():
    net, test = network(), blobs(seed=1)
    fit(net, blobs(), settings(8, precision="bf16"), progress=False)
    found = net.certify(test[0])
    assert found.logits.dtype == torch.float64
    assert float(found.certified.double().mean()) > 0.9
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = net.certify(test[0])
    assert torch.equal(again.margin, found.margin)


def test_bf16_is_refused_for_weights_of_float64():
    with pytest.raises(InvalidInput, match=r"precision='bf16' needs float32 .*float64"):
        fit(network().double(), blobs(), settings(1, precision="bf16"), progress=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_training_with_compile_gives_the_network_of_training_without(monkeypatch):
    """Whole graphs, through autograd; the last step, which needs a C++ compiler, is left out."""
    torch.compiler.reset()
    made = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", made)
    plain, fast = network(), network()
    fit(plain, blobs(), settings(2), progress=False)
    fit(fast, blobs(), settings(2, compile=True, accumulate=3), progress=False)
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("loss", "precision"),
    [("cross-entropy", "float32"), ("trades", "bf16"), ("certified-set", "float32")],
)
def test_the_objective_is_one_graph_and_gives_the_same_numbers(loss, precision):
    torch.compiler.reset()
    nets = network(PROPERTIES["affinity"]), network(PROPERTIES["affinity"])
    chosen = settings(loss=loss, precision=precision)
    plain, fast = (Objective(net.train(), chosen) for net in nets)
    fast = torch.compile(fast, fullgraph=True, backend="aot_eager")
    weight = torch.tensor(0.7)
    for _ in range(2):
        values = [objective(*blobs(24), weight) for objective in (plain, fast)]
        torch.testing.assert_close(*values)
        for value in values:
            value.backward()
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=2e-2, atol=1e-3)
    for one, other in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        torch.testing.assert_close(one, other)
    torch.compiler.reset()
