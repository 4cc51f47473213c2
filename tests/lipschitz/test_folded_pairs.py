"""Linear layers before the last one in the constants of logit differences."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.heads import GloRoNet
from relaxcert.lipschitz import folded_pairs
from relaxcert.lipschitz.matrix import pair_distances
from relaxcert.lipschitz.verified import VerifiedBounds, verify
from relaxcert.spec import Local
from relaxcert.testing.exact import exact, norm_within
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


def test_rows_that_cancel_are_certified_with_their_rounding_error():
    """(w_1 - w_0) M = 0 up to rounding, while h is 2^40: what is computed is all error."""
    before = linear([[1.0, 2.0**-20], [1.0, 0.0]], [2.0**40, 2.0**40])
    last = linear([[1.0, -1.0], [-1.0, 1.0]], [2.0**-14, 0.0])
    backbone = nn.Sequential(before, last)
    net = GloRoNet(backbone, Local(eps=2.0**-20)).eval()
    points = torch.tensor([[1 / 3, 2.0**-40], [1.0, 0.0]], dtype=torch.float64)
    found = net.certify(points)
    proved = net.verify().norms["l2"]
    assert proved.error_scale == pytest.approx(64.0)
    # The computed gap may be off by 2 ulp of 2^40, 2^-11, which is more than the whole margin.
    assert not bool(found.certified.any())


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
