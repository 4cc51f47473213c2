"""torch.compile, whole graph: the same numbers, and nothing certified with stale bounds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxcert import lipschitz
from relaxcert.errors import StaleBounds
from relaxcert.heads import GloRoNet
from relaxcert.heads.evaluation import running_output
from relaxcert.lipschitz import registry
from relaxcert.spec import Local, RelaxedTopK, Targeted
from tests.networks import linear, randn, random_backbone

PROPERTIES = {
    "uniform": RelaxedTopK(3, eps=0.05),
    "pointwise": RelaxedTopK(3, eps=0.05, quantifier="pointwise"),
    "targeted": Targeted.neighbours([0, 1, 2, 3], eps=0.05),
    "composition": Local(eps=0.02) & RelaxedTopK(2, eps=0.1, norm="linf"),
}


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(net):
    return torch.compile(net, fullgraph=True, backend="aot_eager")


def built(prop) -> tuple[GloRoNet, torch.Tensor]:
    return GloRoNet(random_backbone(1), prop), randn(1, 12, 4, dtype=torch.float32)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", list(PROPERTIES))
def test_compiled_equals_eager_in_train_mode(name):
    net, inputs = built(PROPERTIES[name])
    twin, _ = built(PROPERTIES[name])
    fast = compiled(net.train())
    for _ in range(2):
        left, right = fast(inputs), twin.train()(inputs)
        torch.testing.assert_close(left, right)
        left.sum().backward()
        right.sum().backward()
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    for one, other in zip(net.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", list(PROPERTIES))
def test_compiled_equals_eager_in_eval_mode_and_answers_bottom_after_a_change(name):
    net, inputs = built(PROPERTIES[name])
    net.eval().verify()
    fast = compiled(net)
    with torch.no_grad():
        # Compiled code asks no point twice, so it uses the running bound alone.
        wanted = running_output(inputs, net.lipschitz.current_graph((4,)), net.verify(), net.head)
        assert torch.equal(fast(inputs), wanted)
        assert torch.equal(net(inputs).argmax(1), wanted.argmax(1))
        assert bool((wanted.argmax(1) != 4).any())
        net.backbone[1].weight.data[0, 0] += 1.0
        stale = fast(inputs)
        assert stale.argmax(1).tolist() == [4] * 12
        assert bool((stale[:, 4] == torch.inf).all())
        net.verify()
        assert torch.equal(fast(inputs).argmax(1), net(inputs).argmax(1))
        assert not torch.equal(fast(inputs), wanted)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_before_the_proof_raises():
    net, inputs = built(PROPERTIES["uniform"])
    with pytest.raises((StaleBounds, torch._dynamo.exc.TorchDynamoException)) as caught:
        compiled(net.eval())(inputs)
    chain, error = [], caught.value
    while error is not None:
        chain.append(repr(error))
        error = error.__cause__
    assert any("verify()" in text for text in chain)


class Scale(nn.Module):
    """A user's layer whose constant is a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = 1.0

    def forward(self, inputs):
        return inputs * self.factor


class ScaleRule(lipschitz.Rule[Scale]):
    def verified(self, layer, norm):
        return lipschitz.Bound(abs(layer.factor), "factor")

    def estimate(self, layer, norm, iterate):
        return abs(layer.factor), None

    def rounding(self, layer, norm):
        return lipschitz.Rounding(operations=1, output_gain=1.0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_answers_bottom_after_a_changed_setting_of_a_layer(monkeypatch):
    """Compiled code follows the attribute (it compiles anew), so the old bounds must not serve."""
    monkeypatch.setattr(registry, "_RULES", {**registry._RULES, Scale: ScaleRule()})
    net = GloRoNet(nn.Sequential(Scale(), linear(torch.eye(2))), Local(eps=0.5)).eval()
    point = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    net.verify()
    fast = compiled(net)
    assert fast(point).argmax(1).item() == 0
    net.backbone[0].factor = 100.0
    assert fast(point).argmax(1).item() == 2
    net.verify()
    assert torch.equal(fast(point).argmax(1), net(point).argmax(1))
    assert fast(point).argmax(1).item() == 0
