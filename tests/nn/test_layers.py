"""MinMax, InputNormalisation and the ready-made dense networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relaxcert.errors import InvalidInput
from relaxcert.nn import dense
from relaxcert.nn.layers import InputNormalisation, MinMax
from tests.networks import randn


@pytest.mark.parametrize("shape", [(3, 2), (3, 8), (2, 6, 5), (2, 4, 3, 3), (0, 4)])
def test_minmax_sorts_each_consecutive_pair_of_dimension_1(shape):
    inputs = randn(1, *shape)
    output = MinMax()(inputs)
    assert output.shape == inputs.shape
    for low in range(0, shape[1], 2):
        pair = inputs[:, low : low + 2]
        assert torch.equal(output[:, low : low + 2], pair.sort(dim=1).values)


@pytest.mark.parametrize("features", [1, 3, 7])
def test_minmax_refuses_an_odd_number_of_features(features):
    with pytest.raises(InvalidInput, match=f"{features} features"):
        MinMax()(torch.zeros(2, features))


@pytest.mark.parametrize("order", [1, 2, torch.inf])
def test_minmax_is_1_lipschitz(order):
    one, other = randn(2, 500, 6), randn(3, 500, 6)
    other[::2] = one[::2] + 1e-3 * other[::2]
    moved = torch.linalg.vector_norm(MinMax()(one) - MinMax()(other), order, dim=1)
    distance = torch.linalg.vector_norm(one - other, order, dim=1)
    assert bool((moved <= distance * (1 + 1e-14)).all())


def test_minmax_preserves_gradient_norms_and_passes_nan_on():
    inputs = randn(4, 5, 6).requires_grad_()
    upstream = randn(5, 5, 6)
    MinMax()(inputs).backward(upstream)
    torch.testing.assert_close(inputs.grad.norm(dim=1), upstream.norm(dim=1))
    assert bool(MinMax()(torch.tensor([[torch.nan, 1.0]])).isnan().all())


@pytest.mark.parametrize("shape", [(), (3,), (3, 1, 1)])
def test_normalisation_subtracts_the_mean_and_divides_by_std(shape):
    mean, std = torch.rand(shape), torch.rand(shape) + 0.1
    inputs = torch.rand(2, 3, 4, 4) if len(shape) == 3 else torch.rand(2, 3)
    assert torch.equal(InputNormalisation(mean, std)(inputs), (inputs - mean) / std)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), float("inf"), [1.0, 0.0]])
def test_normalisation_refuses_bad_std(std):
    with pytest.raises(InvalidInput, match="std must be finite and greater than 0"):
        InputNormalisation(0.0, torch.tensor(std))


@pytest.mark.parametrize("mean", [float("nan"), float("inf"), [0.0, -float("inf")]])
def test_normalisation_refuses_bad_mean(mean):
    with pytest.raises(InvalidInput, match="mean must be finite"):
        InputNormalisation(torch.tensor(mean), 1.0)


@pytest.mark.parametrize(
    ("shape", "given"), [((4,), (2, 1)), ((3, 1, 1), (2, 1, 5, 5)), ((2, 3), (1, 3))]
)
def test_normalisation_refuses_to_stretch_its_input(shape, given):
    layer = InputNormalisation(torch.zeros(shape), torch.ones(shape))
    with pytest.raises(InvalidInput, match="without changing its shape"):
        layer(torch.zeros(given))


def test_normalisation_is_fixed_and_moves_with_the_module():
    layer = InputNormalisation(0.5, 0.25)
    assert list(layer.parameters()) == []
    assert set(layer.state_dict()) == {"mean", "std"}
    assert layer.double().std.dtype == torch.float64


@pytest.mark.parametrize("activation", ["minmax", "relu"])
def test_dense_builds_orthogonal_layers_with_zero_biases(activation):
    net = dense(12, [8, 6], 3, activation=activation)
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [
        (12, 8),
        (8, 6),
        (6, 3),
    ]
    for layer in layers:
        product = layer.weight @ layer.weight.mT
        torch.testing.assert_close(product, torch.eye(len(product)), rtol=0, atol=1e-5)
        assert not bool(layer.bias.any())
    assert net(torch.zeros(2, 3, 2, 2)).shape == (2, 3)


def test_dense_normalises_first_if_told_to():
    net = dense(4, [], 2, mean=0.5, std=0.25)
    (layer,) = (layer for layer in net if isinstance(layer, InputNormalisation))
    assert (layer.mean.item(), layer.std.item()) == (0.5, 0.25)
    inputs = torch.rand(3, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(inputs), net[-1]((inputs - 0.5) / 0.25))


def test_dense_repeats_several_means_over_the_features():
    net = dense(4, [], 2, mean=[1.0, 2.0], std=2.0)
    inputs = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    torch.testing.assert_close(net(inputs), net[-1](torch.tensor([[0.0, 0.0, 1.0, 1.0]])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, [4], 3), "features=0"),
        ((-1, [4], 3), "features=-1"),
        ((4, [0], 3), "hidden=0"),
        ((4, [4, -2], 3), "hidden=-2"),
        ((4, [4], 1), "num_classes=1"),
        ((4, [4, 5], 3), "holds 5: MinMax needs even widths"),
    ],
)
def test_dense_refuses_sizes_that_make_no_network(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        dense(*arguments)


def test_dense_refuses_unknown_activations_and_takes_odd_widths_for_relu():
    with pytest.raises(InvalidInput, match="activation='tanh' must be one of minmax, relu"):
        dense(4, [4], 3, activation="tanh")
    assert dense(4, [5], 3, activation="relu")(torch.zeros(1, 4)).shape == (1, 3)
