"""Random nested modules: the bound holds on sampled pairs, or the network is refused by an error of
relaxcert's own. Nothing passes silently."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from relaxcert.errors import InvalidInput, InvalidWeights, RelaxcertError, UnsupportedLayer
from relaxcert.lipschitz import folding
from relaxcert.lipschitz.matrix import DUAL_ORDER
from relaxcert.lipschitz.verified import verify
from relaxcert.nn import Abs, Concatenation, GroupSort, MinMax, Residual, Scale
from tests.networks import NORMS, randn

CHANNELS, SIZE = 4, 4


class Difference(nn.Module):
    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, inputs):
        return self.left(inputs) - self.right(inputs)


class Halves(nn.Module):
    """Each half of the channels its own way, then side by side."""

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, inputs):
        first, second = torch.chunk(inputs, 2, dim=1)
        return torch.cat([self.left(first), self.right(second)], dim=1)


class Odd(nn.Module):
    """Something that no bound is known for."""

    def __init__(self, which: int) -> None:
        super().__init__()
        self.which = which

    def forward(self, inputs):
        return (
            inputs * inputs,
            inputs.softmax(1),
            inputs / (1 + inputs.abs()),
            inputs - inputs.mean((1, 2, 3), keepdim=True),
            inputs.flip(0),
            inputs + inputs[:1],
            inputs.clamp(-1, 1) * 3 + inputs.sin(),
        )[self.which]


PLAIN = [
    nn.ReLU,
    nn.Tanh,
    nn.SiLU,
    nn.Identity,
    nn.Dropout,
    MinMax,
    Abs,
    lambda: nn.LeakyReLU(-2.0),
    lambda: GroupSort(2),
    lambda: Scale(-0.7),
    lambda: nn.BatchNorm2d(CHANNELS),
    lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding="same", padding_mode="circular"),
    lambda: nn.Conv2d(CHANNELS, CHANNELS, 1, groups=2),
    lambda: nn.MaxPool2d(3, 1, padding=1),
    lambda: nn.AvgPool2d(3, 1, padding=1),
]
REFUSED = [
    lambda: nn.GroupNorm(2, CHANNELS),
    lambda: nn.LayerNorm(SIZE),
    lambda: nn.Softmax(1),
    *[lambda which=which: Odd(which) for which in range(7)],
]


def blocks(odd: bool) -> st.SearchStrategy[nn.Module]:
    """Modules that map (4, 4, 4) to (4, 4, 4)."""
    plain = st.sampled_from(PLAIN).map(lambda make: make())
    leaf = plain | st.sampled_from(REFUSED).map(lambda make: make()) if odd else plain

    def extend(inner):
        many = st.lists(inner, min_size=1, max_size=3)
        return st.one_of(
            many.map(lambda parts: nn.Sequential(*parts)),
            many.map(lambda parts: nn.Sequential(*parts, parts[0])),  # used twice
            inner.map(Residual),
            st.tuples(inner, inner).map(lambda pair: Difference(*pair)),
            inner.map(lambda part: Difference(part, part)),
            st.tuples(inner, inner).map(
                lambda pair: nn.Sequential(Concatenation(*pair), nn.Conv2d(8, CHANNELS, 1))
            ),
            st.sampled_from([MinMax, nn.ReLU, nn.Tanh]).map(
                lambda make: Halves(make(), nn.Conv2d(2, 2, 3, padding=1))
            ),
        )

    return st.recursive(leaf, extend, max_leaves=5)


def network(body: nn.Module, seed: int) -> nn.Sequential:
    net = nn.Sequential(body, nn.Flatten(), nn.Linear(CHANNELS * SIZE * SIZE, 3)).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(values.abs() + 0.1 if name.endswith("running_var") else values / 2)
    return net


def steepest(net: nn.Module, norm: str, seed: int) -> torch.Tensor:
    """(3, 3): the largest dual norm of a gradient of f_j - f_i over random points."""
    points = randn(seed, 4, CHANNELS, SIZE, SIZE).requires_grad_()
    logits = net(points.clone())  # in-place layers
    gradients = torch.stack(
        [
            torch.autograd.grad(logits[:, j].sum(), points, retain_graph=True)[0].flatten(1)
            for j in range(3)
        ]
    )
    difference = gradients[:, None] - gradients[None]
    return torch.linalg.vector_norm(difference, DUAL_ORDER[norm], dim=3).amax(2)


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.data_too_large])


def holds(body: nn.Module, seed: int) -> bool:
    """Whether no slope exceeds its bound; in the network's own function, not in the graph's."""
    net = network(body, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bounds = verify(net, NORMS, 3, (CHANNELS, SIZE, SIZE))
        for norm, proved in bounds.norms.items():
            limit = proved.product * proved.pairs
            if bool((steepest(net, norm, seed) > limit * (1 + 1e-9) + 1e-12).any()):
                return False
    return True


@given(blocks(odd=False), st.integers(0, 1000))
@FUZZ
def test_bounds_hold_for_any_nesting_of_supported_parts(body, seed):
    assert holds(body, seed)


@given(blocks(odd=True), st.integers(0, 1000))
@FUZZ
def test_odd_parts_are_refused_or_their_bound_holds(body, seed):
    try:
        assert holds(body, seed)
    except UnsupportedLayer:
        return
    odd = (Odd, nn.GroupNorm, nn.LayerNorm, nn.Softmax)
    assert not any(isinstance(module, odd) for module in body.modules())


def test_the_fuzz_would_find_a_residual_bounded_by_the_larger_part(monkeypatch):
    monkeypatch.setattr(
        "relaxcert.lipschitz.propagation.add_up", lambda *parts: max(parts, default=0.0)
    )
    monkeypatch.setattr(
        folding.Folding, "smaller", lambda self, place, norm, totals, known, memory: known
    )
    torch.manual_seed(0)
    assert not all(
        holds(Residual(nn.Sequential(nn.Conv2d(4, 4, 1, groups=4), nn.LeakyReLU(0.9))), seed)
        for seed in range(8)
    )


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_extreme_weights_give_a_bound_that_holds_or_none(scale):
    layer = nn.Conv2d(2, 2, 3, padding=1, bias=False)
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(18, 2)).double()
    with torch.no_grad():
        net[0].weight.mul_(scale)
    bound = verify(net, ["l2"], 2, (2, 3, 3)).norms["l2"].product
    with torch.no_grad():
        basis = torch.eye(18, dtype=torch.float64).reshape(18, 2, 3, 3)
        columns = layer(basis).flatten(1) / scale
    truth = float(torch.linalg.matrix_norm(columns, 2))
    assert truth * (1 - 1e-6) <= bound / scale <= truth * (1 + 1e-6)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_bad_weights_are_refused():
    for layer, error in (
        (nn.Conv2d(0, 2, 1), RelaxcertError),
        (nn.Conv2d(2, 2, 1).to(torch.float16), RelaxcertError),
        (nn.BatchNorm2d(2, track_running_stats=False), UnsupportedLayer),
    ):
        with pytest.raises(error):
            verify(nn.Sequential(layer.eval(), nn.Flatten(), nn.Linear(8, 2)), ["l2"], 2, (2, 2, 2))
    layer = nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        layer.weight[0, 0] = float("nan")
    with pytest.raises(InvalidWeights):
        verify(nn.Sequential(layer, nn.Flatten(), nn.Linear(8, 2)), ["l2"], 2, (2, 2, 2))
    norm = nn.BatchNorm2d(2).eval()
    norm.running_var[0] = -1.0
    with pytest.raises(InvalidWeights, match="running_var"):
        verify(nn.Sequential(norm, nn.Flatten(), nn.Linear(8, 2)), ["l2"], 2, (2, 2, 2))
    with pytest.raises(InvalidInput, match="do not fit"):
        verify(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()), ["l2"], 2, (2, 2, 2))
