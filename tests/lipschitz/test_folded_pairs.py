"""Linear layers before the last one in the constants of logit differences."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.heads import GloRoNet
from relaxcert.lipschitz import folded_pairs
from relaxcert.lipschitz import forward as forward_module
from relaxcert.lipschitz.matrix import pair_distances
from relaxcert.lipschitz.verified import VerifiedBounds, verify
from relaxcert.spec import Local
from relaxcert.testing.exact import exact, exact_vector, forward, norm_within
from tests.lipschitz.references import exact_matrix
from tests.networks import NORMS, linear, randn

DUAL = {"l2": "l2", "linf": "l1", "l1": "linf"}
CASES = {
    "dense": (lambda: [nn.Linear(5, 7, dtype=torch.float64)], (5,)),
    "narrow": (lambda: [nn.Linear(6, 2), nn.Linear(2, 6)], (6,)),
    "convolution": (lambda: [nn.Conv1d(2, 3, 3, padding=1), nn.Flatten()], (2, 4)),
    "strided": (lambda: [nn.Conv2d(1, 3, 2, stride=2, bias=False), nn.Flatten()], (1, 4, 4)),
}


def made(name: str, seed: int = 0) -> tuple[nn.Sequential, tuple[int, ...], list[list[Fraction]]]:
    """A network of linear layers only, the shape of a point, and its exact matrix."""
    make, shape = CASES[name]
    torch.manual_seed(seed)
    before = make()
    with torch.no_grad():
        features = nn.Sequential(*before).double()(torch.zeros(1, *shape).double()).shape[1]
    last = linear(randn(seed + 9, 4, features))
    matrix, inner = None, shape
    for layer in (*before, last):
        if not isinstance(layer, nn.Flatten):
            own = exact_matrix(layer, inner)
            matrix = own if matrix is None else own.dot(matrix)
        with torch.no_grad():
            inner = tuple(layer.double()(torch.zeros(1, *inner).double()).shape[1:])
    return nn.Sequential(*before, last).double(), shape, matrix.tolist()


def proved_for(backbone: nn.Module, norm: str, shape: tuple[int, ...]) -> VerifiedBounds:
    return verify(backbone, [norm], 4, shape)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", CASES)
def test_constants_are_those_of_the_whole_map(name, norm, seed):
    """Never below the exact norm of the difference of two rows, and 1e-9 above it at most."""
    backbone, shape, matrix = made(name, seed)
    found = proved_for(backbone, norm, shape).norms[norm]
    for j in range(4):
        for i in range(4):
            gap = [a - b for a, b in zip(matrix[j], matrix[i], strict=True)]
            constant = Fraction(found.product) * Fraction(float(found.pairs[j, i]))
            assert norm_within(gap, DUAL[norm], constant)
            assert i == j or not norm_within(gap, DUAL[norm], constant * (1 - Fraction(1, 10**9)))


@pytest.mark.parametrize("name", CASES)
def test_the_error_before_the_last_layer_is_not_made_smaller(name):
    """error_scale D covers ||w_j - w_i||, which is what an error of h meets."""
    backbone, shape, _ = made(name)
    for norm in NORMS:
        found = proved_for(backbone, norm, shape).norms[norm]
        plain = pair_distances(backbone[-1].weight.detach(), norm)
        assert found.error_scale > 1.0
        assert bool((found.error_scale * found.pairs >= plain).all())
        assert bool((found.pairs <= plain).all())


def test_the_error_of_features_counts_in_full_where_the_pairs_are_folded(monkeypatch):
    """f_0 - f_1 = -1 for every x, but what is computed is 511: the features are all rounding.

    Both are 2^20 x, by way of x + 2^40 and x + 2^41; M cancels in the difference of the rows.
    """
    first = linear([[1.0], [1.0]], [2.0**40, 2.0**41])
    second = linear([[2.0**20, 0.0], [0.0, 2.0**20]], [-(2.0**60), -(2.0**61)])
    last = linear([[1.0, -1.0], [-1.0, 1.0]], [-1.0, 0.0])
    backbone = nn.Sequential(first, second, last)
    point = torch.tensor([[1.2 * 2.0**-13]], dtype=torch.float64)
    assert exact_gap(backbone, point) == -1
    with torch.no_grad():
        assert (backbone(point) @ torch.tensor([1.0, -1.0]).double()).tolist() == [511.0]

    def certified() -> bool:
        net = GloRoNet(backbone, Local(eps=2.0**-60)).eval()
        return bool(net.certify(point).certified[0])

    assert verify(backbone, ["l2"], 2, (1,)).norms["l2"].error_scale == pytest.approx(64.0)
    assert not certified()
    monkeypatch.setattr(forward_module, "scaled_error", lambda error, proved: error)
    assert certified()  # so the factor is needed


def exact_gap(backbone: nn.Module, point: torch.Tensor) -> Fraction:
    logits = forward(backbone, exact_vector(point))
    return logits[0] - logits[1]


def test_networks_without_linear_layers_before_the_last_are_as_before():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    found = verify(backbone, ["l2"], 3, (4,)).norms["l2"]
    assert found.error_scale == 1.0
    assert torch.equal(found.pairs, pair_distances(backbone[-1].weight.detach(), "l2"))


def test_batch_norm_before_the_last_layer_is_folded_behind_an_activation():
    torch.manual_seed(0)
    norm_layer = nn.BatchNorm1d(6)
    norm_layer.running_var.copy_(torch.tensor([4.0, 1, 1, 1, 1, 0.01]))
    backbone = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), norm_layer, nn.Linear(6, 3)).eval()
    found = verify(backbone, ["l2"], 3, (4,)).norms["l2"]
    plain = pair_distances(backbone[-1].weight.detach().double(), "l2")
    assert bool((found.pairs <= plain).all())
    assert float(found.pairs[0, 1]) < 0.95 * float(plain[0, 1])


def test_a_forgotten_rounding_error_of_the_product_is_found(monkeypatch):
    """Weights that cancel: the stored product is 0, the exact one is not."""
    before = linear([[1 / 3], [1 / 3 + 2.0**-54]])
    last = linear([[1 + 2.0**-52, -1.0], [0.0, 0.0]])
    exact_gap = [sum(a * b[0] for a, b in zip(exact(last.weight)[0], exact(before.weight)))]  # noqa: B905
    backbone = nn.Sequential(before, last)

    def covered() -> bool:
        found = verify(backbone, ["l2"], 2, (1,)).norms["l2"]
        monkeypatch.setattr(folded_pairs, "_MOST_GROWTH", 2.0**200)
        constant = Fraction(found.product) * Fraction(float(found.pairs[0, 1]))
        return norm_within(exact_gap, "l2", constant)

    monkeypatch.setattr(folded_pairs, "_MOST_GROWTH", 2.0**200)
    assert covered()
    true = folded_pairs.row_distances
    monkeypatch.setattr(
        folded_pairs,
        "row_distances",
        lambda rows, norm: true(folded_pairs.Dense(rows.matrix), norm),
    )
    assert not covered()
