"""Cases 6-9: guards beside norms, underflow, absorbed differences, and a last bit."""

from __future__ import annotations

import sys
from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.lipschitz import directed, matrix
from tests.lipschitz import exact
from tests.networks import linear, randn
from tests.soundness import naive
from tests.soundness.exactly import Refutation, certified, radius, sound_and_not_vacuous


def scaled_identity(scale: float) -> nn.Sequential:
    """f_0 - f_1 = scale (x_0 - x_1), through a layer of small weights."""
    rows = scale * torch.eye(2, dtype=torch.float64)
    return nn.Sequential(linear(rows), nn.ReLU(), linear(torch.eye(2))).float()


def flip_of_scaled_identity(scale: float) -> Refutation:
    """From (1, 1/2) to a hair beyond (3/4, 3/4), 1 / (2 sqrt(2)) away."""
    beyond = Fraction(1, 4) + Fraction(1, 10**6)
    other = [1 - beyond, Fraction(1, 2) + beyond]
    distance = Fraction(141422, 100000) * beyond  # a hair above sqrt(2)
    return Refutation(scaled_identity(scale), torch.tensor([1.0, 0.5]), other, distance)


def test_case_6_a_guard_beside_the_norm():
    """x / (||x|| + 1e-9) with ||W|| = 1e-9: the estimate is half the norm or less."""
    case = flip_of_scaled_identity(1e-9)
    claimed = naive.local_radius(case.backbone, case.point, naive.power_method(100, guard=1e-9))
    assert claimed > 1.9 * case.eps
    assert sound_and_not_vacuous(case) == []


@pytest.mark.parametrize("scale", [1e-30, 1e-38])
def test_case_7_underflow(scale):
    """Squares of 1e-30 are 0 in float32, and with a bound of 0 every radius is certified."""
    case = flip_of_scaled_identity(scale)
    assert naive.local_radius(case.backbone, case.point, naive.root_of_squares) == float("inf")
    assert sound_and_not_vacuous(case) == []


@pytest.mark.parametrize(
    ("scale", "usual"),
    [(1e-9, naive.power_method(100, guard=1e-9)), (1e-30, naive.root_of_squares)],
    ids=["case 6", "case 7"],
)
def test_relaxcert_with_the_usual_norm_inside_would_be_found(scale, usual, monkeypatch):
    """The seeded mutation: the verified norm replaced by the usual one, in float32."""
    case = flip_of_scaled_identity(scale)
    monkeypatch.setattr(matrix, "verified_spectral_norm", lambda weight: usual(weight.float()))
    found = sound_and_not_vacuous(case)
    assert found
    assert found[0].startswith("certified at")


def test_case_8_large_biases_absorb_differences():
    """Beside 2^24 float32 keeps even numbers only: 0.9 becomes 0 and 1.5 becomes 2."""
    backbone = nn.Sequential(linear([[1, 0], [0, 1]], [2**24, 2**24])).float()
    point = torch.tensor([1.5, 0.9])
    claimed = naive.local_radius(backbone, point, naive.power_method(1))
    gap = Fraction(point[0].item()) - Fraction(point[1].item())
    beyond = gap / 2 + Fraction(1, 10**6)
    other = [Fraction(point[0].item()) - beyond, Fraction(point[1].item()) + beyond]
    case = Refutation(backbone, point, other, Fraction(141422, 100000) * beyond)
    assert claimed > 3.3 * case.eps
    assert sound_and_not_vacuous(case) == []


def largest_claimed_eps(backbone: nn.Sequential, point: torch.Tensor) -> float:
    """The largest float at which f_0 - f_1 - eps ||w|| > 0 in the network's own arithmetic."""
    with torch.no_grad():
        logits = backbone(point[None])[0]
        distance = (backbone[0].weight[0] - backbone[0].weight[1]).norm()
        gap = logits[0] - logits[1]
        eps = gap / distance
        while gap - eps * distance <= 0:
            eps = torch.nextafter(eps, torch.zeros(()).to(eps))
        while gap - torch.nextafter(eps, 2 * eps) * distance > 0:
            eps = torch.nextafter(eps, 2 * eps)
    return float(eps)


def linear_models_at_their_margin(dtype: torch.dtype, count: int) -> list[Refutation]:
    """Random linear models whose float certificate reaches the boundary, each with its flip.

    The nearest point of the boundary is x - (w.x / w.w) w, exactly; a hair beyond is the flip,
    and ``eps`` the claimed radius wherever that reaches so far.
    """
    found: list[Refutation] = []
    for seed in range(count):
        row = randn(seed, 8, dtype=dtype)
        point = randn(1000 + seed, 8, dtype=dtype)
        row = row * torch.sign(row @ point)
        backbone = nn.Sequential(linear([row.tolist(), [0.0] * 8], dtype=dtype))
        eps = Fraction(largest_claimed_eps(backbone, point))
        w, x = exact.exact_vector(row), exact.exact_vector(point)
        ww, wx = sum(a * a for a in w), sum(a * b for a, b in zip(w, x, strict=True))
        share = wx / ww * (1 + Fraction(1, 10**25))
        if share**2 * ww <= eps**2:
            other = [a - share * b for a, b in zip(x, w, strict=True)]
            found.append(Refutation(backbone, point, other, eps))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_case_9_linear_model_at_its_margin(dtype):
    """Float rounding alone certifies a point of the boundary, in 6 to 9 of 40 models."""
    cases = linear_models_at_their_margin(dtype, 40)
    assert len(cases) >= 4
    for case in cases:
        assert sound_and_not_vacuous(case) == []
        # Not vacuous indeed: all but 1e-9 of the true radius is proved.
        assert certified(case.backbone, case.point, case.eps * (1 - Fraction(1, 10**6)))
        assert radius(case.backbone, case.point) > (1 - 1e-6) * float(case.eps)


def test_relaxcert_without_its_rounding_terms_would_be_found(monkeypatch):
    """The seeded mutation: gamma = 0 and no directed rounding, that is, plain float64."""
    cases = linear_models_at_their_margin(torch.float64, 40)
    assert not any(sound_and_not_vacuous(case) for case in cases)
    plain = {
        "gamma": lambda operations, unit: 0.0,
        "up": lambda value: value,
        "tensor_up": lambda value: value,
        "tensor_down": lambda value: value,
        "INFLATE": 1.0,
    }
    true = {name: getattr(directed, name) for name in plain}
    modules = [module for name, module in sys.modules.items() if name.startswith("relaxcert.")]
    for module in modules:
        for name, replacement in plain.items():
            if getattr(module, name, None) is true[name]:
                monkeypatch.setattr(module, name, replacement)
    monkeypatch.setattr("relaxcert.heads.links._ALLOWED", 0.0)
    assert any(sound_and_not_vacuous(case) for case in cases)
