"""Level D: certificates against an adversarial search of what float32 really computes.

Quick: 30 networks; ``RELAXCERT_LONG=1 pytest tests/heads/test_deployed.py`` searches 2,000
(recorded: no violation).
"""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedPrecision
from relaxcert.heads import GloRoNet
from relaxcert.lipschitz import deployed
from relaxcert.nn import MinMax, Residual
from relaxcert.spec import Local, RelaxedTopK
from tests.long import long_search
from tests.networks import linear, randn

ULP = 2.0**-24


def random_net(rng: random.Random, norm: str) -> tuple[nn.Sequential, tuple[int, ...]]:
    """A small network, often with large biases, where rounding decides."""
    torch.manual_seed(rng.randrange(2**30))
    offset = rng.choice([0.0, 1.0, 300.0, 2.0**18])
    kind = rng.choice(["dense", "dense", "tanh", "convolution", "residual"])
    if kind == "convolution":
        layers: list[nn.Module] = [nn.Conv1d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten()]
        shape, width = (1, 4), 8
    else:
        shape, width = (4,), 6
        hidden = nn.Linear(6, 6) if kind == "dense" else Residual(nn.Linear(6, 6))
        activation = nn.Tanh() if kind == "tanh" else MinMax()
        layers = [nn.Linear(4, 6), activation, hidden, nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(width, 3))
    with torch.no_grad():
        net[-1].bias.add_(offset)
        net[0].bias.mul_(1 + offset / 100)
    return net.eval(), shape


def computed(net: nn.Module, points: Tensor) -> list[Tensor]:
    """float32 logits in several orders of summation: units permuted, one point at a time."""
    with torch.no_grad():
        found = [net(points), torch.cat([net(point[None]) for point in points])]
        last = net[-1]
        features = net[:-1](points)
        for order in (range(last.in_features - 1, -1, -1), range(last.in_features)):
            total = last.bias.expand(len(points), -1).clone()
            for place in order:
                total = total + features[:, place, None] * last.weight[:, place]
            found.append(total)
        products = features[:, None, :] * last.weight
        found.append(products.sum(2) + last.bias)
    return found


def near(point: Tensor, eps: Fraction, norm: str, net: nn.Module, seed: int) -> Tensor:
    """float32 points of the ball: along gradients of logit differences, at random, and ulps."""
    exact = point.double().requires_grad_()
    logits = net.double()(exact[None])[0]
    gradients = [
        torch.autograd.grad(logits[j] - logits[i], exact, retain_graph=True)[0]
        for j in range(3)
        for i in range(3)
        if i != j
    ]
    net.float()
    moves = torch.stack([*gradients, *randn(seed, 20, *point.shape)]).flatten(1)
    if norm == "linf":
        moves = moves.sign()
    else:
        moves = moves / moves.norm(dim=1, keepdim=True).clamp(min=1e-300)
    found = [point]
    for share in (0.3, 0.9, 0.999):
        found += list((point.double().flatten() + share * float(eps) * moves).float())
    points = torch.stack([p.reshape(point.shape) for p in found])
    distance = (points.double() - point.double()).flatten(1)
    order = {"l2": 2.0, "linf": math.inf}[norm]
    inside = torch.linalg.vector_norm(distance, order, dim=1) <= float(eps) * (1 - 1e-9)
    return points[inside]


def broken(count: int, seed: int) -> tuple[list[str], int]:
    """Certificates that a float32 run contradicts, and how many certificates were searched."""
    rng, found, searched = random.Random(seed), [], 0
    for index in range(count):
        norm = rng.choice(["l2", "linf"])
        net, shape = random_net(rng, norm)
        point = randn(rng.randrange(2**20), *shape).float()
        guess = GloRoNet(net, Local(eps=1, norm=norm)).certify(point[None]).radius[0].item()
        # At most a little below the level-R radius: rounding must do the rest.
        for eps in (guess * 0.9999, guess * 0.5, max(guess, 1e-6) * 1e-3):
            if not 0 < eps < math.inf:
                continue
            prop = Local(eps=eps, norm=norm)
            cert = GloRoNet(net, prop).certify(point[None], deployed="float32")
            if not bool(cert.certified[0]):
                continue
            searched += 1
            points = near(point, prop.balls[0].eps, norm, net, index)
            wanted = int(cert.prediction[0])
            for logits in computed(net, points):
                rest = logits.clone()
                rest[:, wanted] = -math.inf
                if bool((logits[:, wanted] <= rest.amax(1)).any()):
                    found.append(f"network {index} of seed {seed}, eps {eps}")
    return found, searched


def test_no_certificate_is_contradicted_by_a_float32_run():
    found, searched = broken(30, 0)
    assert found == []
    assert searched > 30


@long_search
@pytest.mark.parametrize("shard", range(1, 21))
def test_no_certificate_is_contradicted_at_length(shard):
    found, searched = broken(100, shard)
    assert found == []
    assert searched > 30


def test_the_search_finds_what_level_r_alone_would_certify(monkeypatch):
    """Seeded mutation: without the deployment's terms the same search finds contradictions."""
    monkeypatch.setattr(
        deployed,
        "_with_deployment",
        lambda centre, features, reached, ball, bounds, dtype: centre,
    )
    found, _ = broken(25, 0)
    assert found != []


def test_a_bias_of_2_to_the_24_is_certified_at_level_r_only():
    """Case 8: the exact difference is 1/4, and float32 cannot see it."""
    net = GloRoNet(nn.Sequential(linear(torch.eye(2), [2.0**24, 2.0**24])), Local(eps=0.01))
    net.float()
    point = torch.tensor([[1.0, 0.75]])
    assert bool(net.certify(point).certified)
    assert not bool(net.certify(point, deployed="float32").certified)
    assert bool(net.certify(point, deployed="float64").certified)
    assert net.backbone(point)[0, 0] == net.backbone(point)[0, 1]


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_levels_are_named_and_ordered(norm):
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(4, 8), MinMax(), nn.Linear(8, 4))
    net = GloRoNet(backbone, RelaxedTopK(2, eps="0.01", norm=norm))
    inputs = torch.rand(30, 4)
    real, double, single = (net.certify(inputs, deployed=d) for d in (None, "float64", "float32"))
    assert (real.level, double.level, single.level) == ("R", "D(float64)", "D(float32)")
    assert bool((single.margin < double.margin).all() and (double.margin < real.margin).all())
    assert bool((real.margin - single.margin < 1e-4).all())
    assert bool(single.certified.any())
    assert float(single.radius.max()) <= 0.01


def test_an_overflow_anywhere_is_not_certified():
    """The logits are small, but a hidden unit exceeds float32 for some points of the ball."""
    big = 2.0**127
    first = linear([[big, 0.0], [0.0, 1.0]], dtype=torch.float32)
    last = linear([[2.0**-126, 1.0], [0.0, 0.0]], [1.0, 0.0], torch.float32)
    net = GloRoNet(nn.Sequential(first, nn.ReLU(), last), Local(eps=2.0**-20))
    point = torch.tensor([[1.0, 1.0]])
    assert not bool(net.certify(point, deployed="float32").certified)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "half", "int8"])
def test_other_formats_are_refused(name):
    net = GloRoNet(nn.Sequential(nn.Linear(2, 2)), Local(eps=0.1))
    with pytest.raises(UnsupportedPrecision, match=name):
        net.certify(torch.zeros(1, 2), deployed=name)


def test_weights_that_float32_lacks_are_refused():
    net = GloRoNet(nn.Sequential(linear([[0.1, 0.2], [0.3, 0.4]])), Local(eps=0.1))
    with pytest.raises(UnsupportedPrecision, match=r"0\.weight"):
        net.certify(torch.zeros(1, 2), deployed="float32")
    net.certify(torch.zeros(1, 2), deployed="float64")


def test_tf32_is_refused():
    net = GloRoNet(nn.Sequential(nn.Linear(2, 2)), Local(eps=0.1))
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(UnsupportedPrecision, match="TF32"):
            net.certify(torch.zeros(1, 2), deployed="float32")
        net.certify(torch.zeros(1, 2), deployed="float64")
    finally:
        torch.set_float32_matmul_precision("highest")


def test_compositions_carry_the_level_to_their_parts():
    torch.manual_seed(0)
    net = GloRoNet(
        nn.Sequential(nn.Linear(4, 4)), Local(eps=0.01) & RelaxedTopK(2, eps=0.02, norm="linf")
    )
    cert = net.certify(torch.rand(5, 4), deployed="float32")
    assert [part.level for part in cert.parts] == ["D(float32)"] * 2
