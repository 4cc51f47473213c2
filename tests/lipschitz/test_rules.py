"""One layer kind, one rule: each bound holds, and what has no rule is refused by path."""

from __future__ import annotations

import copy
import math
from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from relaxcert import lipschitz
from relaxcert.errors import InvalidInput, InvalidWeights, UnsupportedLayer
from relaxcert.lipschitz import registry
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.lipschitz.network import NetworkLipschitz
from relaxcert.lipschitz.power import initial_iterate
from relaxcert.lipschitz.rules import pairs_of_any_map
from relaxcert.lipschitz.tracing import trace
from relaxcert.lipschitz.verified import verify
from relaxcert.nn import baked
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.nn.orthogonal import OrthogonalLinear
from tests.lipschitz.exact import norm_within
from tests.networks import NORMS, directions, linear, randn, random_backbone

LAYERS = {
    "linear": linear(randn(1, 5, 4), randn(2, 5)),
    "wide": linear(randn(3, 2, 4)),
    "rank one": linear(torch.ones(4, 4)),
    "relu": nn.ReLU(),
    "minmax": MinMax(),
    "flatten": nn.Flatten(),
    "identity": nn.Identity(),
    "dropout": nn.Dropout(0.5).eval(),
    "normalisation": InputNormalisation(torch.zeros(4), torch.tensor([1.0, 0.1, 3.0, 0.3])),
}


def bound_of(layer: nn.Module, norm: str) -> float:
    exact = copy.deepcopy(layer).double()
    return registry.rule_for(exact, "").verified(exact, norm).value


@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.parametrize("norm", NORMS)
def test_verified_bound_is_at_least_every_sampled_ratio(name, norm):
    layer, bound = LAYERS[name].double(), Fraction(bound_of(LAYERS[name], norm))
    functionals = layer.weight if isinstance(layer, nn.Linear) else None
    with torch.no_grad():
        for seed, scale in ((3, 1.0), (4, 0.01)):
            start = randn(seed, 1, 4)
            moves = scale * directions(norm, 4, seed, functionals)
            change = layer(start + moves) - layer(start)
            taken = (start + moves) - start
            for output, step in zip(change, taken, strict=True):
                ratio = (
                    torch.linalg.vector_norm(output, ORDER[norm])
                    / torch.linalg.vector_norm(step, ORDER[norm])
                ).item()
                assert Fraction(ratio) <= bound * (1 + Fraction(1, 10**12))


@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.parametrize("norm", NORMS)
def test_a_converged_estimate_agrees_with_the_verified_bound(name, norm):
    layer = LAYERS[name].double()
    rule, iterate = registry.rule_for(layer, ""), None
    if isinstance(layer, nn.Linear):
        iterate = initial_iterate(layer.in_features).double()
        assert rule.initial_iterate(layer).shape == iterate.shape
    for _ in range(2000):
        value, following = rule.estimate(layer, norm, iterate)
        if following is None:
            break
        iterate = following
    found = float(torch.as_tensor(value).detach())
    verified = rule.verified(layer, norm).value
    assert found <= verified * (1 + 1e-6)
    assert found >= verified * (1 - 1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_normalisation_divides_by_the_smallest_std_rounded_up(norm):
    layer = InputNormalisation(0.5, torch.tensor([1.0, 0.1, 3.0]))
    assert Fraction(bound_of(layer, norm)) >= 1 / Fraction(float(layer.std[1]))
    assert bound_of(layer, norm) == pytest.approx(10.0, rel=1e-6)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_bad_std_is_refused_when_built_and_when_changed_later(bad):
    with pytest.raises(InvalidInput, match="std"):
        InputNormalisation(0.0, torch.tensor([1.0, bad]))
    layer = InputNormalisation(0.0, torch.tensor([1.0, 1.0]))
    layer.std[1] = bad
    with pytest.raises(InvalidWeights, match="std of InputNormalisation"):
        bound_of(layer, "l2")


def test_bad_mean_is_refused_when_built_and_when_changed_later():
    with pytest.raises(InvalidInput, match="mean"):
        InputNormalisation(math.nan, 1.0)
    layer = InputNormalisation(0.0, 1.0)
    layer.mean.fill_(math.inf)
    with pytest.raises(InvalidWeights, match="mean of InputNormalisation"):
        bound_of(layer, "l2")


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 2)])
def test_normalisation_refuses_to_copy_a_narrow_input_to_more_features(shape):
    """One number copied to four would move by sqrt(4) times as much as the rule says."""
    layer = InputNormalisation(torch.zeros(1, 4), torch.ones(1, 4))
    with pytest.raises((InvalidInput, RuntimeError)):
        layer(torch.zeros(shape))


def test_normalisation_refuses_to_copy_one_point_to_a_batch():
    with pytest.raises(InvalidInput, match="without changing its shape"):
        InputNormalisation(torch.zeros(3, 2), torch.ones(3, 2))(torch.zeros(1, 2))


@pytest.mark.parametrize("norm", NORMS)
def test_difference_of_two_outputs_of_any_map_is_bounded_by_the_dual_norm(norm):
    pairs = pairs_of_any_map(3, norm)
    dual = {"l2": "l2", "linf": "l1", "l1": "linf"}[norm]
    assert norm_within([Fraction(1), Fraction(-1)], dual, float(pairs[0, 1]))
    assert float(pairs[0, 1]) <= {"l2": 1.4142135623730954, "linf": 2.0, "l1": 1.0}[norm]
    assert torch.equal(pairs.diagonal(), torch.zeros(3).double())


class Renamed(nn.Linear):
    def forward(self, inputs):
        return 100 * super().forward(inputs)


def patched() -> nn.Module:
    layer = nn.ReLU()
    layer.forward = lambda inputs: 100 * inputs
    return layer


def hooked(kind: str) -> nn.Module:
    layer = nn.Linear(4, 4)
    if kind == "hook":
        layer.register_forward_hook(lambda module, inputs, output: 100 * output)
    else:
        layer.register_forward_pre_hook(lambda module, inputs: (100 * inputs[0],))
    return layer


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(nn.Linear(4, 4))


UNKNOWN = {
    "layer norm": lambda: nn.LayerNorm(4),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "softmax": lambda: nn.Softmax(1),
    "subclass of linear": lambda: Renamed(4, 4),
    "own forward": patched,
    "forward hook": lambda: hooked("hook"),
    "forward pre-hook": lambda: hooked("pre"),
    "old weight norm": old_weight_norm,
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
    "pruned": lambda: prune.l1_unstructured(nn.Linear(4, 4), "weight", 2),
    "bilinear map": lambda: nn.Bilinear(4, 4, 4),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", list(UNKNOWN))
def test_unknown_or_changed_layers_are_refused_with_their_path(name):
    backbone = nn.Sequential(
        nn.Flatten(), nn.Sequential(nn.ReLU(), UNKNOWN[name]()), nn.Linear(4, 2)
    )
    with pytest.raises(UnsupportedLayer, match=r"backbone\.1\.1"):
        trace(backbone)


def test_hooks_and_patches_on_a_container_are_refused():
    inner = nn.Sequential(nn.Linear(4, 4))
    inner.register_forward_hook(lambda module, inputs, output: 100 * output)
    with pytest.raises(UnsupportedLayer, match=r"backbone\.1 "):
        trace(nn.Sequential(nn.ReLU(), inner))
    whole = nn.Sequential(nn.Linear(4, 4))
    whole.forward = lambda inputs: inputs
    with pytest.raises(UnsupportedLayer, match="forward method of its own"):
        trace(whole)


def test_a_hook_that_is_added_after_the_proof_is_refused():
    backbone = random_backbone(0)
    net = NetworkLipschitz(backbone, ["l2"], 4)
    net.verified()
    backbone[1].register_forward_hook(lambda module, inputs, output: 100 * output)
    with pytest.raises(UnsupportedLayer, match="hooks"):
        net.verified()


@pytest.mark.parametrize("layer", [nn.Flatten(0), nn.Unflatten(0, (2, 2))])
def test_layers_that_rearrange_the_batch_are_refused(layer):
    with pytest.raises(UnsupportedLayer, match="batch"):
        verify(nn.Sequential(layer, nn.Linear(4, 2)), ["l2"], 2)


def test_an_empty_backbone_is_refused():
    with pytest.raises(UnsupportedLayer, match="no layers"):
        trace(nn.Sequential())


@pytest.fixture
def clean_registry(monkeypatch):
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))


class LeakySlope(nn.Module):
    """A user's layer, with a plain attribute."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, inputs):
        return torch.where(inputs > 0, inputs, self.slope * inputs)


def test_a_rule_of_the_users_own_takes_a_dozen_lines(clean_registry):
    @lipschitz.rule(LeakySlope)
    class LeakySlopeRule(lipschitz.Rule[LeakySlope]):
        def verified(self, layer, norm):
            return lipschitz.Bound(max(1.0, abs(layer.slope)), "largest slope")

        def estimate(self, layer, norm, iterate):
            return max(1.0, abs(layer.slope)), None

        def rounding(self, layer, norm):
            return lipschitz.Rounding(operations=2, output_gain=1.0)

    backbone = nn.Sequential(nn.Linear(4, 4), LeakySlope(3.0), nn.Linear(4, 3)).double()
    bounds = verify(backbone, ["l2"], 3)
    assert LeakySlope in lipschitz.supported()
    assert bounds.norms["l2"].body[2].bound.value == 3.0
    net = NetworkLipschitz(backbone, ["l2"], 3)
    before = net.verified()
    backbone[1].slope = 5.0
    assert net.verified() is not before
    assert net.verified().norms["l2"].body[2].bound.value == 5.0

    class Steeper(LeakySlope):
        pass

    with pytest.raises(UnsupportedLayer, match="Steeper"):
        trace(nn.Sequential(Steeper(1.0), nn.Linear(4, 3)))


def test_a_rule_of_the_users_own_does_not_vouch_for_patched_layers_inside(clean_registry):
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, inputs):
            return self.inner(inputs)

    @lipschitz.rule(Pair)
    class PairRule(lipschitz.Rule[Pair]):
        def verified(self, layer, norm):
            return lipschitz.Bound(lipschitz.verified_spectral_norm(layer.inner.weight), "inner")

        def estimate(self, layer, norm, iterate):
            return 1.0, None

        def rounding(self, layer, norm):
            return lipschitz.Rounding()

    layer = Pair()
    trace(nn.Sequential(layer, nn.Linear(4, 3)))
    layer.inner.register_forward_hook(lambda module, inputs, output: 100 * output)
    with pytest.raises(UnsupportedLayer, match="hooks"):
        trace(nn.Sequential(layer, nn.Linear(4, 3)))


def test_the_registry_is_as_it_was():
    assert LeakySlope not in lipschitz.supported()


def test_orthogonal_layers_train_but_are_not_verified():
    backbone = nn.Sequential(OrthogonalLinear(4, 4), MinMax(), nn.Linear(4, 3))
    rule = registry.rule_for(backbone[0], "0")
    assert rule.estimate(backbone[0], "l2", None) == (1.0, None)
    for norm in ("linf", "l1"):
        value, _ = rule.estimate(backbone[0], norm, None)
        sums = backbone[0].weight.abs().sum(1 if norm == "linf" else 0)
        torch.testing.assert_close(value, sums.max())
    with pytest.raises(UnsupportedLayer, match="baked"):
        verify(backbone, ["l2"], 3)
    proved = verify(baked(backbone), ["l2"], 3)
    assert proved.norms["l2"].product == pytest.approx(1.0, abs=1e-5)


def test_a_shared_layer_counts_as_often_as_it_is_used():
    shared = linear(2.0 * torch.eye(4))
    nested = nn.Sequential(
        shared, nn.Sequential(nn.ReLU(), shared), nn.Sequential(), shared, MinMax()
    )
    backbone = nn.Sequential(nested, linear(torch.eye(4)))
    bounds = verify(backbone, NORMS, 4)
    for norm in NORMS:
        assert bounds.norms[norm].product >= 8.0
        assert bounds.norms[norm].product == pytest.approx(8.0, rel=1e-6)
        assert [row.path for row in bounds.norms[norm].rows] == [
            "0.0", "0.1.0", "0.1.1", "0.3", "0.4", "1",
        ]  # fmt: skip


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(4))
def test_product_and_pairs_bound_every_sampled_logit_difference(norm, seed):
    backbone = random_backbone(seed, normalise=seed % 2 == 1, dtype=torch.float64)
    proved = verify(backbone, [norm], 4).norms[norm]
    start = randn(seed, 5, 4)
    for point in start:
        jacobian = torch.autograd.functional.jacobian(lambda x: backbone(x[None])[0], point)
        gradients = (jacobian[:, None] - jacobian[None]).reshape(-1, 4)
        moves = 0.3 * directions(norm, 4, seed, gradients)
        with torch.no_grad():
            change = backbone(point + moves) - backbone(point[None])
        difference = (change[:, :, None] - change[:, None, :]).abs()
        limit = 0.3 * proved.product * proved.pairs
        assert bool((difference <= limit * (1 + 1e-12) + 1e-13).all())


def test_trailing_identities_keep_the_per_pair_constants_and_others_lose_them():
    last = nn.Linear(4, 3)
    assert trace(nn.Sequential(last, nn.Dropout(), nn.Identity())).last.layer is last
    assert trace(nn.Sequential(last, nn.ReLU())).last is None
    proved = verify(nn.Sequential(last, nn.ReLU()), ["l2"], 3)
    assert torch.equal(proved.norms["l2"].pairs, pairs_of_any_map(3, "l2"))
    with pytest.raises(UnsupportedLayer, match="does not end"):
        _ = trace(nn.Sequential(last, nn.ReLU())).last_weight
