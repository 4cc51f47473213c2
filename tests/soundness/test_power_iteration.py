"""Cases 1-4: spectral norms from the power method are too low, and certify what flips."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.lipschitz import matrix
from relaxcert.nn.layers import MinMax
from tests.networks import linear, randn
from tests.soundness import naive
from tests.soundness.exactly import Refutation, length_up, moved, sound_and_not_vacuous

WIDTH = 128


def network_that_flips_at(target: float, seed: int = 1) -> Refutation:
    """3 x 128, Gaussian weights, each layer stretching most what the layer before it does.

    Biases keep every pair in order near the point, so there MinMax is the identity, the bounds of
    the layers are reached together, and the true radius is margin / (product of the norms).
    """
    point = randn(10 * seed + 5, WIDTH, dtype=torch.float32)
    apart = 20.0 * torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(WIDTH // 2)
    layers: list[nn.Module] = []
    hidden, first, direction, product = point.double(), None, None, 1.0
    for place in range(3):
        weight = randn(10 * seed + place, WIDTH, WIDTH) / WIDTH**0.5
        left, sizes, right = torch.linalg.svd(weight)
        if direction is None:
            first = right[0]
        else:
            # A reflection that takes the former output direction to the top right vector.
            axis = direction - right[0]
            axis = axis / axis.norm()
            weight = weight - 2.0 * torch.outer(weight @ axis, axis)
        direction, product = left[:, 0], product * float(sizes[0])
        layers += [linear(weight, apart - weight @ hidden, torch.float32), MinMax()]
        hidden = apart
    last = torch.stack([direction, torch.zeros_like(direction)])
    bias = [target * product - float(direction @ hidden), 0.0]
    backbone = nn.Sequential(*layers, linear(last, bias, torch.float32))
    step = target * (1 + 1e-4)
    return Refutation(backbone, point, moved(point, first, step), length_up(first, step))


@pytest.mark.parametrize(
    ("iterations", "at_least"), [(2, 1.3), (10, 1.06)], ids=["case 1", "case 2"]
)
def test_few_power_iterations(iterations, at_least):
    """Claims about 1.80 (two iterations) and 1.34 (ten) where a flip exists at 1.25."""
    case = network_that_flips_at(1.25)
    claimed = naive.local_radius(case.backbone, case.point, naive.power_method(iterations))
    assert claimed > at_least * case.eps
    assert sound_and_not_vacuous(case) == []


def test_case_3_spiked_spectrum():
    """One singular value of 1.25 above 199 of 1: ten iterations from a stored vector miss it."""
    size, spike = 200, 1.25
    left, _ = torch.linalg.qr(randn(1, size, size))
    right, _ = torch.linalg.qr(randn(2, size, size))
    weight = left @ right.mT + (spike - 1.0) * torch.outer(left[:, 0], right[:, 0])
    last = torch.stack([left[:, 0], torch.zeros(size, dtype=torch.float64)])
    backbone = nn.Sequential(linear(weight, dtype=torch.float32), linear(last)).float()
    point = (right[:, 0] / spike).float()  # logits about (1, 0)
    # The iterate of a network in training: whatever was left, with little along the new spike.
    iterate = randn(3, size, dtype=torch.float32)
    iterate -= (iterate @ right[:, 0].float()) * right[:, 0].float() * 0.98
    claimed = naive.local_radius(backbone, point, naive.power_method(10, start=iterate))
    step = (1 + 1e-5) / spike
    case = Refutation(
        backbone, point, moved(point, right[:, 0], step), length_up(right[:, 0], step)
    )
    assert claimed > 1.15 * case.eps
    assert sound_and_not_vacuous(case) == []


def test_case_4_stale_iterate():
    """The stored vector is a singular vector of 1; the iteration never leaves it, the norm is 4."""
    weight = torch.diag(torch.tensor([4.0, 1.0, 0.5]))
    last = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    backbone = nn.Sequential(linear(weight), linear(last)).float()
    point = torch.tensor([1.0, 0.0, 0.0])
    stale = torch.tensor([0.0, 1.0, 0.0])
    estimate = naive.converged_power_method(stale)
    assert estimate(backbone[0].weight) == 1.0
    flips_at = Fraction(1) + Fraction(1, 10**9)
    case = Refutation(backbone, point, [1 - flips_at, Fraction(0), Fraction(0)], flips_at)
    assert naive.local_radius(backbone, point, estimate) == 4.0
    assert sound_and_not_vacuous(case) == []


@pytest.mark.parametrize("iterations", [2, 10])
def test_relaxcert_with_power_iterations_inside_would_be_found(iterations, monkeypatch):
    """The seeded mutation: the verified norm replaced by the usual one."""
    mutant = naive.power_method(iterations)
    monkeypatch.setattr(matrix, "verified_spectral_norm", mutant)
    found = sound_and_not_vacuous(network_that_flips_at(1.25))
    assert len(found) == 2
    assert found[0].startswith("certified at 1.25")
