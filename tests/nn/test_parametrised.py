"""AOL convolutions and normalised rows: the theorems hold, and are not what certifies."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from relaxcert.heads import GloRoNet
from relaxcert.lipschitz import materialised
from relaxcert.nn import (
    AlmostOrthogonal,
    NormalisedRows,
    Residual,
    almost_orthogonal,
    normalised_last,
)
from relaxcert.spec import Local
from tests.networks import randn
from tests.nn.operators import norm_of


@given(
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_the_norm_of_an_almost_orthogonal_kernel_is_at_most_1(
    channels, kernel, stride, padding, seed, scale
):
    layer = nn.Conv2d(*channels, kernel, stride, padding).double()
    with torch.no_grad():
        layer.weight.copy_(AlmostOrthogonal()(scale * randn(seed, *layer.weight.shape)))
    assert norm_of(layer, (channels[0], 5, 4)) <= 1.0 + 1e-12


def test_without_its_correlations_the_kernel_would_be_too_large():
    """Rescaling by the taps' own length (shift 0, channel i only), the obvious mistake."""
    weight = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(weight / weight.square().sum((0, 2, 3), keepdim=True).sqrt())
    assert norm_of(layer, (1, 6, 6)) > 2.0
    with torch.no_grad():
        layer.weight.copy_(AlmostOrthogonal()(weight))
    assert 0.8 < norm_of(layer, (1, 6, 6)) <= 1.0


def test_gradients_are_right_and_zeros_stay_finite():
    kernel = randn(1, 2, 3, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(AlmostOrthogonal(), (kernel,))
    rows = randn(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(NormalisedRows(), (rows,))
    for parametrisation, shape in ((AlmostOrthogonal(), (2, 3, 3, 3)), (NormalisedRows(), (3, 4))):
        zeros = torch.zeros(shape, requires_grad=True)
        parametrisation(zeros).sum().backward()
        assert zeros.grad.isfinite().all()


def test_rows_have_length_1():
    lengths = NormalisedRows()(randn(3, 5, 7)).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def net_of() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        Residual(nn.Conv2d(4, 4, 3, padding=1)),
        nn.Flatten(),
        nn.Linear(64, 6),
        nn.Linear(6, 3),
    )


def test_only_convolutions_outside_of_residual_blocks_and_the_last_layer_are_parametrised():
    plain = net_of()
    twin = normalised_last(almost_orthogonal(plain))
    computed = [name for name, m in twin.named_modules() if hasattr(m, "parametrizations")]
    assert computed == ["0", "4"]
    assert not any(hasattr(m, "parametrizations") for m in plain.modules())
    assert torch.equal(twin[1].block.weight, plain[1].block.weight)


def test_training_sees_the_computed_weight_and_certificates_its_stored_numbers():
    """The estimate of the parametrised network is that of the plain one with the same numbers."""
    twin = normalised_last(almost_orthogonal(net_of()))
    plain = materialised(twin)
    assert type(plain[0]) is nn.Conv2d
    points = randn(4, 5, 2, 4, 4, dtype=torch.float32)
    torch.testing.assert_close(plain(points), twin(points))
    nets = [GloRoNet(b, Local(eps=0.1), input_shape=(2, 4, 4)) for b in (twin, plain)]
    for _ in range(60):
        left, right = (net.train()(points) for net in nets)
    torch.testing.assert_close(left, right)
    left.square().sum().backward()
    originals = [p for name, p in twin.named_parameters() if name.endswith("original")]
    assert len(originals) == 2
    assert all(p.grad.isfinite().all() and p.grad.any() for p in originals)


def test_the_bound_is_that_of_the_numbers_where_rounding_breaks_the_theorem():
    """In float32 some kernels exceed 1 by their last bits: a bound of 1 would be unsound."""
    exceeding = 0
    for seed in range(12):
        layer = nn.Conv2d(4, 4, 1, bias=False)
        with torch.no_grad():
            nn.init.orthogonal_(layer.weight, generator=torch.Generator().manual_seed(seed))
            layer.weight.copy_(AlmostOrthogonal()(layer.weight))
        backbone = nn.Sequential(layer, nn.Flatten(), nn.Linear(16, 2))
        net = GloRoNet(backbone, Local(eps=0.1), input_shape=(4, 2, 2))
        bound = net.lipschitz.table()[0].bound
        truth = norm_of(copy.deepcopy(layer), (4, 2, 2))
        assert bound >= truth - 1e-14
        assert bound == pytest.approx(truth, rel=1e-6)
        exceeding += truth > 1.0 + 1e-9
    assert exceeding > 0
