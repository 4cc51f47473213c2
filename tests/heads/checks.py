"""Checks of soundness that regular tests and seeded mutations share.

Each returns a list of contradictions, empty where all is well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from relaxcert.heads import GloRoNet
from relaxcert.heads import certify as certify_module
from relaxcert.heads import head as head_module
from relaxcert.heads.links import EstimatedLinks
from relaxcert.lipschitz.power import initial_iterate
from relaxcert.spec import Local, Property, RelaxedTopK, TopK
from relaxcert.testing.sampling import violations
from tests.networks import linear, randn


@dataclass(frozen=True)
class GivenLinks:
    """Links straight from a matrix in class coordinates, (batch, classes, classes)."""

    logits: Tensor
    matrix: Tensor

    def rows(self, labels: Tensor) -> Tensor:
        return self.matrix.gather(1, labels[:, :, None].expand(-1, -1, self.matrix.shape[2]))

    def centre_rows(self, labels: Tensor) -> Tensor:
        return self.logits.gather(1, labels)[:, :, None] - self.logits[:, None, :]


def refuted_certificates(net: GloRoNet, inputs: Tensor, seed: int = 0) -> list[int]:
    """Indices of points that are certified although the definition fails in their ball."""
    found = violations(net, inputs, net.certify(inputs), seed=seed)
    return [violation.index for violation in found]


def linear_net(seed: int, prop: Property, classes: int = 4, features: int = 3) -> GloRoNet:
    """One linear layer: the per-pair constants are exact, so certificates are tight."""
    weight, bias = randn(seed, classes, features), randn(seed + 1, classes) / 2
    return GloRoNet(nn.Sequential(linear(weight, bias)), prop)


# --- the four checks that the seeded mutations must break -------------------------------------


def certified_ties() -> list[str]:
    """Margins of exactly 0 (identical classes, K_ji = 0) that some stage takes for a proof."""
    found = []
    logits = torch.tensor([[1.0, 1.0, 0.0], [2.0, 1.0, 1.0]], dtype=torch.float64)
    links = EstimatedLinks(logits, torch.zeros(3, 3, dtype=torch.float64), 1.0)
    for k, row in ((1, 0), (2, 1)):
        prop = TopK(k, eps=1)
        head = head_module.compile_property(prop, 3)
        outcome = head(logits, lambda ball: links)
        assert float(outcome.margin[row]) == 0.0
        if int(outcome.loosest[row]) != 0:
            found.append(f"top-{k}: the head reports a set")
        finite = torch.ones(2, dtype=torch.bool)
        cert = certify_module.assemble(outcome, logits, finite, prop, "")
        if bool(cert.certified[row]):
            found.append(f"top-{k}: certified")
    return found


def certified_tied_points() -> list[str]:
    """Points with a tie across the boundary that ``certify`` or ``forward`` certifies.

    A network that masks by value, not by index, takes both tied classes for the top one.
    """
    found = []
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    inputs = torch.tensor([[1.0, 1.0], [3.0, 3.0]])
    for prop in (Local(eps=0.125), RelaxedTopK(1, eps=0.125)):
        net = GloRoNet(nn.Sequential(linear(weight, dtype=torch.float32)), prop).eval()
        if bool(net.certify(inputs).certified.any()):
            found.append(f"{prop}: certify")
        if bool((net(inputs).argmax(1) != 3).any()):
            found.append(f"{prop}: forward")
    return found


def certificates_beyond_a_known_flip() -> list[str]:
    """A network whose prediction flips at a known radius, below what two iterations claim."""
    size = 48
    weight = randn(7, size, size)
    left, sizes, right = torch.linalg.svd(weight)
    start, norm = initial_iterate(size).double(), float(sizes[0])
    for _ in range(2):
        start = weight.mT @ (weight @ start)
        start = start / start.norm()
    low = float((weight @ start).norm())
    assert low < 0.95 * norm
    last = torch.stack([left[:, 0], torch.zeros(size, dtype=torch.float64)])
    backbone = nn.Sequential(linear(weight), linear(last))
    point = right[0][None] / norm  # logits (1, 0); they meet at distance 1 / norm
    found = []
    for eps, wanted in ((0.999 / norm, True), (0.5 / norm + 0.5 / low, False)):
        net = GloRoNet(backbone, Local(eps=eps))
        certified = bool(net.certify(point).certified)
        if wanted and not certified:
            found.append("a point inside its true radius is not certified")
        flipped = point - eps * right[0]
        moved = backbone(flipped)[0]
        if certified and bool(moved[0] <= moved[1]):
            found.append(f"certified at {eps}, although it flips at {1 / norm}")
    return found


def refuted_on_linear_networks() -> list[str]:
    """Certificates of random linear networks that a move along w_j - w_i refutes."""
    found = []
    for seed in range(6):
        inputs = randn(100 + seed, 8, 3)
        for prop in (Local(eps=0.3), TopK(2, eps=0.3), RelaxedTopK(3, eps=0.3)):
            net = linear_net(seed, prop)
            found += [f"{prop} seed {seed} point {i}" for i in refuted_certificates(net, inputs)]
    return found


def radii(backbone: nn.Module, prop_at: Callable[[object], Property], inputs: Tensor) -> Tensor:
    """Certified radii of the points under ``prop_at(eps)``."""
    return GloRoNet(backbone, prop_at(1)).certify(inputs).radius


def telling_eps(
    backbone: nn.Module, prop_at: Callable[[object], Property], inputs: Tensor
) -> Fraction:
    """An eps at which some points are just certified and others just not."""
    found = radii(backbone, prop_at, inputs)
    useful = found[(found > 0) & found.isfinite()].sort().values
    if len(useful) == 0:
        return Fraction(1, 10)
    return Fraction(float(useful[len(useful) // 2])) * (1 - Fraction(1, 10**9))
