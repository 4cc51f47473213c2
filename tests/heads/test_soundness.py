"""Certificates against the definitions, on sampled and worst-case points of the ball."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.heads import GloRoNet
from relaxcert.nn.layers import MinMax
from relaxcert.spec import Local
from relaxcert.testing.sampling import broken_at
from tests.heads import checks
from tests.networks import NORMS, every_kind, linear, randn, random_backbone

KINDS = range(len(every_kind(4)))


def kind_at(kind: int, norm: str):
    return lambda eps: every_kind(4, eps, norm)[kind]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_certificates_of_linear_networks_hold_on_their_worst_points(kind, norm):
    """One linear layer: moves along w_j - w_i (in the norm's own geometry) are the worst."""
    some = 0
    for seed in range(2):
        inputs = randn(10 + seed, 7, 3)
        backbone = checks.linear_net(seed, Local(eps=1)).backbone
        eps = checks.telling_eps(backbone, kind_at(kind, norm), inputs)
        net = GloRoNet(backbone, kind_at(kind, norm)(eps))
        some += int(net.certify(inputs).certified.sum())
        assert checks.refuted_certificates(net, inputs, seed) == []
    assert some > 0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_certificates_of_small_networks_hold_on_sampled_and_gradient_points(kind, norm):
    some = 0
    for seed, activation in ((1, MinMax), (2, nn.ReLU)):
        backbone = random_backbone(seed, activation=activation, normalise=seed == 2)
        inputs = 2 * randn(20 + seed, 5, 4, dtype=torch.float32)
        eps = checks.telling_eps(backbone, kind_at(kind, norm), inputs)
        net = GloRoNet(backbone, kind_at(kind, norm)(eps))
        some += int(net.certify(inputs).certified.sum())
        assert checks.refuted_certificates(net, inputs, seed) == []
    assert some > 0


@pytest.mark.parametrize("norm", NORMS)
def test_on_linear_networks_the_local_radius_is_the_exact_one(norm):
    """A hair beyond the radius the definition fails: the certificate could not be larger."""
    net = checks.linear_net(3, Local(eps=1, norm=norm))
    inputs = randn(30, 6, 3)
    for index, radius in enumerate(net.certify(inputs).radius.tolist()):
        inside = GloRoNet(net.backbone, Local(eps=radius * (1 - 1e-9), norm=norm))
        beyond = Local(eps=radius * (1 + 1e-6), norm=norm)
        assert bool(inside.certify(inputs).certified[index])
        assert broken_at(beyond, net.backbone, inputs[index], 0) is not None


def test_the_check_itself_refutes_a_certificate_that_is_too_large(monkeypatch):
    net = checks.linear_net(3, Local(eps=1))
    inputs = randn(30, 6, 3)
    wide = GloRoNet(net.backbone, Local(eps=2 * float(net.certify(inputs).radius.max())))
    assert checks.refuted_certificates(wide, inputs) == []
    certificates = wide.certify(inputs)
    monkeypatch.setattr(
        wide, "certify", lambda x: type(certificates)(
            **{**vars(certificates), "certified": torch.ones(6, dtype=torch.bool)}
        )
    )  # fmt: skip
    assert checks.refuted_certificates(wide, inputs) == list(range(6))


def test_linear_model_at_its_margin_is_never_certified_at_a_radius_that_flips_it():
    """Soundness case 9: eps at the exact distance of the boundary, and one step to either side."""
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float32)
    backbone = nn.Sequential(linear(weight, dtype=torch.float32))
    for scale in (1.0, 0.1, 1 / 3, 1e-3, 1e5):
        point = torch.tensor([[scale, scale]], dtype=torch.float32)
        distance = Fraction(point[0, 0].item()) * 7 / 5
        for eps in (distance, distance * (1 + Fraction(1, 10**15)), distance + Fraction(1, 10**30)):
            net = GloRoNet(backbone, Local(eps=eps)).eval()
            assert not bool(net.certify(point).certified)
            assert net(point).argmax(1).item() == 2
        inside = GloRoNet(backbone, Local(eps=distance * (1 - Fraction(1, 10**8))))
        assert bool(inside.certify(point).certified)


def test_tiny_weights_are_certified_with_tiny_bounds_and_no_further():
    """Soundness cases 6 and 7: no norm is divided by (norm + 1e-9), no square underflows to 0."""
    for scale in (1e-12, 1e-100, 1e-200, 1e-305):
        rows = scale * torch.eye(2, dtype=torch.float64)
        backbone = nn.Sequential(linear(rows), nn.ReLU(), linear(torch.eye(2)))
        point = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
        flips_at = 0.5 / 2**0.5  # f_0 - f_1 = scale (x_0 - x_1)
        small, large = (
            GloRoNet(backbone, Local(eps=eps)).certify(point)
            for eps in (flips_at * 0.999, flips_at * 1.001)
        )
        assert not bool(large.certified)
        assert bool(small.certified) or scale < 1e-100


def test_a_spiked_spectrum_is_not_certified_beyond_its_flip():
    """Soundness case 3."""
    sizes = torch.tensor([4.0, *[1.0] * 19], dtype=torch.float64)
    left, _ = torch.linalg.qr(randn(1, 20, 20))
    right, _ = torch.linalg.qr(randn(2, 20, 20))
    weight = left @ torch.diag(sizes) @ right.mT
    last = torch.stack([left[:, 0], torch.zeros(20, dtype=torch.float64)])
    backbone = nn.Sequential(linear(weight), linear(last))
    point = right[:, 0][None] / 4  # logits (1, 0), which meet at distance 1/4
    assert bool(GloRoNet(backbone, Local(eps=0.2499)).certify(point).certified)
    assert not bool(GloRoNet(backbone, Local(eps=0.2501)).certify(point).certified)
