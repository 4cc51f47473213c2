"""Orthogonal layers by the Cayley transform, and their way to plain layers and back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxcert.heads import GloRoNet
from relaxcert.nn import baked, dense, orthogonalised
from relaxcert.nn.layers import MinMax
from relaxcert.nn.orthogonal import OrthogonalLinear, cayley
from relaxcert.spec import Local
from tests.networks import randn

SIZES = [(6, 6), (3, 8), (8, 3), (1, 5), (5, 1), (1, 1), (40, 40)]


@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
@pytest.mark.parametrize("scale", [1.0, 0.0, 30.0])
def test_weight_has_orthonormal_rows_or_columns_for_any_parameters(inputs, outputs, scale):
    layer = OrthogonalLinear(inputs, outputs)
    with torch.no_grad():
        layer.free.copy_(scale * randn(1, *layer.free.shape) / 10)
    weight = layer.weight.detach()
    assert weight.shape == (outputs, inputs)
    product = weight.mT @ weight if outputs >= inputs else weight @ weight.mT
    torch.testing.assert_close(product, torch.eye(min(inputs, outputs)), rtol=0, atol=1e-5)


def test_cayley_is_differentiable_and_its_gradient_is_right():
    free = randn(2, 5, 3).requires_grad_()
    assert torch.autograd.gradcheck(cayley, (free,))


@pytest.mark.parametrize("bias", [True, False])
def test_layer_computes_weight_times_input_plus_bias(bias):
    layer = OrthogonalLinear(4, 6, bias=bias)
    inputs = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    expected = inputs @ layer.weight.mT
    if bias:
        nn.init.normal_(layer.bias)
        expected = expected + layer.bias
    torch.testing.assert_close(layer(inputs), expected)
    assert (layer.bias is None) is not bias


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_baked_networks_hold_plain_layers_with_the_same_numbers_and_outputs(dtype):
    net = nn.Sequential(
        OrthogonalLinear(5, 8),
        nn.Sequential(MinMax(), OrthogonalLinear(8, 4, bias=False)),
        nn.Linear(4, 3),
    ).to(dtype)
    plain = baked(net)
    inputs = randn(3, 10, 5, dtype=dtype)
    torch.testing.assert_close(plain(inputs), net(inputs))
    assert torch.equal(plain[1][1].weight, net[1][1].weight)
    assert not any(isinstance(layer, OrthogonalLinear) for layer in plain.modules())
    assert type(plain[1][1]) is nn.Linear
    assert plain[1][1].bias is None
    assert isinstance(net[0], OrthogonalLinear)
    assert torch.equal(plain[0].weight, net[0].weight)


def test_baking_a_single_layer_gives_a_single_layer():
    layer = OrthogonalLinear(4, 3)
    assert type(baked(layer)) is nn.Linear


def test_baked_networks_certify_with_a_product_near_1_and_the_original_does_not_change():
    net = orthogonalised(dense(6, [8, 8], 3))
    free = net[1].free.clone()
    proved = GloRoNet(baked(net), Local(eps=0.1)).verify().norms["l2"]
    assert proved.product == pytest.approx(1.0, abs=1e-5)
    assert torch.equal(net[1].free, free)


def test_orthogonalised_keeps_the_last_layer_and_replaces_the_others():
    plain = dense(6, [8, 4], 3)
    net = orthogonalised(plain)
    kinds = [type(layer) for layer in net if isinstance(layer, nn.Linear | OrthogonalLinear)]
    assert kinds == [OrthogonalLinear, OrthogonalLinear, nn.Linear]
    assert torch.equal(net[-1].weight, plain[-1].weight)
    assert net[-1].weight is not plain[-1].weight
    assert type(plain[1]) is nn.Linear
    assert net(torch.zeros(2, 6)).shape == (2, 3)


def test_orthogonalised_keeps_type_and_absence_of_bias():
    plain = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 3)).double()
    net = orthogonalised(plain)
    assert net[0].bias is None
    assert net[0].free.dtype == torch.float64
