"""The power-method estimate: right for training, too low for certificates."""

from __future__ import annotations

import pytest
import torch

from relaxcert.lipschitz import verified_spectral_norm
from relaxcert.lipschitz.power import initial_iterate, safe_norm, spectral_norm_estimate
from tests.networks import randn

SHAPES = [(5, 5), (8, 3), (3, 8), (1, 4), (4, 1), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_many_iterations_converge_to_the_norm(shape):
    weight = randn(1, *shape)
    sigma, _ = spectral_norm_estimate(weight, initial_iterate(shape[1]).double(), 2000)
    assert float(sigma) == pytest.approx(float(torch.linalg.svdvals(weight)[0]), rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_a_converged_estimate_is_that_of_the_norm(shape):
    weight = randn(2, *shape).requires_grad_()
    sigma, _ = spectral_norm_estimate(weight, initial_iterate(shape[1]).double(), 3000)
    (found,) = torch.autograd.grad(sigma, weight)
    (wanted,) = torch.autograd.grad(torch.linalg.matrix_norm(weight, 2), weight)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)


def test_gradient_of_a_converged_estimate_is_the_finite_difference():
    weight, step = randn(3, 4, 3).requires_grad_(), 1e-6
    start = initial_iterate(3).double()
    (found,) = torch.autograd.grad(spectral_norm_estimate(weight, start, 3000)[0], weight)
    for place in range(weight.numel()):
        bump = torch.zeros(weight.numel(), dtype=torch.float64)
        bump[place] = step
        ends = [
            float(torch.linalg.svdvals(weight.detach() + sign * bump.view_as(weight))[0])
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert float(found.flatten()[place]) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_weights_give_value_and_gradient_zero_and_keep_the_iterate(dtype):
    weight = torch.zeros(3, 4, dtype=dtype, requires_grad=True)
    start = initial_iterate(4).to(dtype)
    sigma, following = spectral_norm_estimate(weight, start)
    sigma.backward()
    assert float(sigma.detach()) == 0.0
    assert torch.equal(weight.grad, torch.zeros_like(weight))
    assert torch.equal(following, start)


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18])
def test_float32_weights_of_any_size_have_an_estimate_and_a_finite_gradient(scale):
    weight = (randn(4, 4, 4) * scale).float().requires_grad_()
    sigma, _ = spectral_norm_estimate(weight, initial_iterate(4), 50)
    sigma.backward()
    assert float(sigma.detach()) == pytest.approx(
        float(torch.linalg.svdvals(weight.detach().double())[0]), rel=1e-3
    )
    assert bool(weight.grad.isfinite().all())


def test_safe_norm_has_no_nan_gradient_at_zero():
    vector = torch.zeros(3, requires_grad=True)
    safe_norm(vector).backward()
    assert torch.equal(vector.grad, torch.zeros(3))


def test_the_iterate_is_a_unit_vector_and_the_same_each_time():
    assert torch.equal(initial_iterate(7), initial_iterate(7))
    assert float(initial_iterate(7).norm()) == pytest.approx(1.0, rel=1e-6)


def test_two_iterations_end_below_the_norm_on_gaussian_matrices():
    """Why nothing may be certified with the estimate (soundness.md, cases 1 and 2)."""
    ratios = []
    for seed in range(20):
        weight = randn(100 + seed, 64, 64)
        sigma, _ = spectral_norm_estimate(weight, initial_iterate(64).double(), 2)
        ratios.append(float(sigma) / verified_spectral_norm(weight))
    assert max(ratios) < 1.0
    assert sum(ratios) / len(ratios) < 0.92


def test_a_converged_estimate_can_sit_at_a_lower_singular_vector():
    """Stale iterate: no change in a thousand iterations, and wrong by a factor of 4 (case 4)."""
    weight = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    sigma, _ = spectral_norm_estimate(weight, torch.tensor([0.0, 1.0], dtype=torch.float64), 1000)
    assert float(sigma) == 1.0
    assert verified_spectral_norm(weight) >= 4.0
