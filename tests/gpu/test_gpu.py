"""On a GPU: whole graphs, no host synchronisation, CUDA graphs, and the verdicts of the CPU."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from relaxcert.errors import UnsupportedPrecision
from relaxcert.heads import GloRoNet
from relaxcert.heads.links import EstimatedLinks
from relaxcert.lipschitz import forward
from relaxcert.nn.convolutional import conv_net
from relaxcert.spec import Local, Property, RelaxedTopK
from relaxcert.training import fit
from relaxcert.training.objective import Gradient, Objective
from tests.networks import every_kind, randn
from tests.training.toy import CLASSES, blobs, network, settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
KINDS = pytest.mark.parametrize("prop", every_kind(CLASSES), ids=lambda prop: repr(prop)[:40])
RT2 = RelaxedTopK(2, eps=0.1)


@pytest.fixture(autouse=True)
def settings_as_they_were():
    yield
    torch.cuda.set_sync_debug_mode("default")
    torch.set_float32_matmul_precision("highest")
    torch.compiler.reset()


def on_gpu(prop: Property = RT2) -> GloRoNet:
    return network(prop).cuda()


def batch(points: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, labels = blobs(points)
    return inputs.cuda(), labels.cuda()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("loss", ["cross-entropy", "trades", "certified-set"])
def test_the_training_forward_compiles_to_one_graph(loss, precision):
    nets = on_gpu(), on_gpu()
    plain, fast = (Objective(n.train(), settings(loss=loss, precision=precision)) for n in nets)
    fast = torch.compile(fast, fullgraph=True)
    weight = torch.full((), 0.7, device="cuda")
    for _ in range(2):
        values = [objective(*batch(), weight) for objective in (plain, fast)]
        torch.testing.assert_close(*values, rtol=1e-2, atol=1e-3)
        for value in values:
            value.backward()
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=5e-2, atol=5e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@KINDS
def test_the_head_compiles_to_one_graph(prop):
    net = on_gpu(prop)
    logits = randn(1, 32, CLASSES, dtype=torch.float32).cuda()
    pairs = torch.rand(CLASSES, CLASSES, device="cuda")

    def margin(values):
        return net.head.margin(values, lambda ball: EstimatedLinks(values, pairs, 0.1)).margin

    torch.testing.assert_close(torch.compile(margin, fullgraph=True)(logits), margin(logits))


@KINDS
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_training_step_does_not_synchronise(prop, precision):
    net = on_gpu(prop).train()
    gradient = Gradient(net, settings(batch_size=24, precision=precision, accumulate=2))
    optimizer = torch.optim.Adam(net.backbone.parameters(), fused=True)
    inputs, labels = batch()
    gradient.add(inputs, labels, 0.7)
    optimizer.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    gradient.add(inputs, labels, 0.7)
    optimizer.step()
    torch.cuda.set_sync_debug_mode("default")
    assert all(bool(p.isfinite().all()) for p in net.backbone.parameters())


@KINDS
def test_the_head_is_captured_in_a_cuda_graph(prop):
    head = on_gpu(prop).head
    pairs = torch.rand(CLASSES, CLASSES, device="cuda")
    logits = randn(1, 32, CLASSES, dtype=torch.float32).cuda()

    def margin() -> torch.Tensor:
        return head.margin(logits, lambda ball: EstimatedLinks(logits, pairs, 0.1)).margin

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            margin()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = margin()
    for seed in (2, 3):
        logits.copy_(randn(seed, 32, CLASSES, dtype=torch.float32))
        graph.replay()
        torch.testing.assert_close(captured, margin())


def both(net: GloRoNet, inputs: torch.Tensor):
    here = copy.deepcopy(net)
    there = GloRoNet(copy.deepcopy(net.backbone).cuda(), net.prop)
    return here.certify(inputs), there.certify(inputs.cuda())


def same_verdicts(one, other) -> None:
    """Equal but where a margin is so near 0 that the two ways of rounding may disagree."""
    torch.testing.assert_close(one.margin, other.margin.cpu(), rtol=1e-9, atol=1e-9)
    clear = one.margin.abs() > 1e-8
    assert bool(clear.any())
    for name in ("certified", "k", "strictest_k", "sets"):
        assert torch.equal(getattr(one, name)[clear], getattr(other, name).cpu()[clear])


@KINDS
def test_verdicts_of_dense_networks_are_those_of_the_cpu(prop):
    net = network(prop, hidden=(16, 16))
    fit(net, blobs(), settings(4), progress=False)
    same_verdicts(*both(net, blobs(200, seed=1)[0]))


def test_verdicts_of_convolutional_networks_are_those_of_the_cpu():
    torch.manual_seed(0)
    net = GloRoNet(conv_net((3, 16, 16), 10), Local(eps=0.01), input_shape=(3, 16, 16))
    same_verdicts(*both(net, torch.rand(40, 3, 16, 16)))


def test_tf32_and_cudnn_are_off_while_certifying(monkeypatch):
    net = GloRoNet(nn.Sequential(*network().backbone).cuda(), Local(eps=0.1))
    inputs = blobs(50)[0].cuda()
    plain = net.certify(inputs)
    heard = []
    inside = forward._forward

    def listening(points, graph, bounds):
        heard.append((points.dtype, torch.backends.cudnn.enabled))
        return inside(points, graph, bounds)

    monkeypatch.setattr(forward, "_forward", listening)
    torch.set_float32_matmul_precision("high")
    found = net.certify(inputs)
    assert heard == [(torch.float64, False)]
    assert torch.equal(found.margin, plain.margin)
    for run in (lambda: net.eval()(inputs), lambda: net.certify(inputs, mode="float32-first")):
        with pytest.raises(UnsupportedPrecision, match="precision"):
            run()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_on_the_gpu_raises_the_vra(precision):
    net = on_gpu(Local(eps=0.1))
    fit(net, blobs(), settings(8, precision=precision), progress=False)
    certified = net.certify(blobs(seed=1)[0].cuda()).certified
    assert float(certified.double().mean()) > 0.9
