"""Points of a ball at which a certificate would break first, and certificates that do break."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import torch
from torch import Tensor, nn

from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.spec.ball import Ball, Norm
from relaxcert.spec.property import Property
from relaxcert.spec.reference import holds
from relaxcert.testing.exact import exact_rows, in_ball

_INSIDE = 1.0 - 1e-9
_WIDE = 64  # features up to which whole Jacobians are formed


def directions(norm: Norm, features: int, seed: int, extra: Tensor | None = None) -> Tensor:
    """Directions of length 1 in ``norm``, (n, features), float64.

    Random ones, axes, corners, and for each functional in ``extra``, (m, features), the direction
    that raises it most and the one that lowers it most.
    """
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(24, features, generator=generator, dtype=torch.float64)
    axes = torch.eye(features, dtype=torch.float64)[:_WIDE]
    signs = list(product((-1.0, 1.0), repeat=min(features, 5)))
    corners = torch.tensor(signs, dtype=torch.float64)
    corners = nn.functional.pad(corners, (0, features - corners.shape[1]))
    rows = [random, axes, -axes, corners]
    if extra is not None:
        functionals = extra.double().reshape(-1, features)
        rows += [steepest(functionals, norm), -steepest(functionals, norm)]
    every = torch.cat(rows)
    lengths = torch.linalg.vector_norm(every, ORDER[norm], dim=1)
    return (every / lengths[:, None])[lengths > 0]


def steepest(functionals: Tensor, norm: Norm) -> Tensor:
    """The direction in which each functional grows fastest in the unit ball of ``norm``.

    shape: (n, features) -> (n, features), not normalised.
    """
    match norm:
        case "l2":
            return functionals
        case "linf":
            return functionals.sign()
        case "l1":
            place = functionals.abs().argmax(1, keepdim=True)
            chosen = functionals.gather(1, place).sign()
            return torch.zeros_like(functionals).scatter(1, place, chosen)


def steepest_functionals(backbone: nn.Module, point: Tensor) -> Tensor:
    """Gradients of all logit differences at a point, (classes^2, features)."""

    def logits(x: Tensor) -> Tensor:
        return backbone(x[None])[0]

    jacobian = torch.autograd.functional.jacobian(logits, point)
    flat = jacobian.flatten(1)
    return (flat[:, None] - flat[None]).reshape(-1, point.numel())


def points_of_ball(backbone: nn.Module, point: Tensor, ball: Ball, seed: int) -> Tensor:
    """Points x' around ``point``, (n, *shape): a hair inside the sphere, half-way, and steepest.

    Each is checked exactly to lie inside the ball.
    """
    functionals = steepest_functionals(backbone, point)
    moves = directions(ball.norm, point.numel(), seed, functionals).to(point)
    moves = moves.reshape(-1, *point.shape)
    eps = float(ball.eps)
    points = torch.cat([point + eps * _INSIDE * moves, point + eps / 2 * moves])
    (centre,) = exact_rows(point.flatten()[None])
    inside = [in_ball(ball, centre, row) for row in exact_rows(points.flatten(1))]
    return points[torch.tensor(inside)]


@dataclass(frozen=True)
class Violation:
    """A certified point whose property fails.

    Attributes:
        index: which point of the batch.
        point: x, (*shape), float64.
        witnesses: x', (points, *shape): together they break it; one, unless each prefix length
            has to be broken at a point of its own.
    """

    index: int
    point: Tensor
    witnesses: Tensor


def violations(
    net: GloRoNet,
    inputs: Tensor,
    certificates: Certificates,
    *,
    seed: int = 0,
    only: Iterable[int] | None = None,
) -> list[Violation]:
    """Certified points at which the definition fails on sampled points of their balls.

    Judged by :mod:`relaxcert.spec.reference` on float64 logits: exact for networks with dyadic
    weights of few bits, else up to float64 rounding.

    Args:
        net: the network; its property is the one that is judged.
        inputs: the points, (batch, ...).
        certificates: what ``net.certify(inputs)`` said, or what somebody claims it said.
        seed: of the random directions.
        only: the indices to look at; by default all.
    """
    backbone = copy.deepcopy(net.backbone).double().eval()
    chosen = range(len(inputs)) if only is None else only
    found: list[Violation] = []
    for index in chosen:
        if bool(certificates.certified[index]):
            point = inputs[index].double()
            witnesses = broken_at(net.prop, backbone, point, seed)
            if witnesses is not None:
                found.append(Violation(index, point, witnesses))
    return found


def broken_at(prop: Property, backbone: nn.Module, point: Tensor, seed: int) -> Tensor | None:
    """Sampled x', (points, *shape), that together break ``prop`` around ``point``; None if none do.

    As few as it takes: where one k must serve the whole ball, each k may break at its own x'.
    """
    balls = dict.fromkeys(prop.balls)
    samples = {ball: points_of_ball(backbone, point, ball, seed) for ball in balls}
    every = torch.cat([point[None], *samples.values()])
    with torch.no_grad():
        centre, *logits = exact_rows(backbone(every))
    owners = [ball for ball, points in samples.items() for _ in range(len(points))]

    def breaks(chosen: Sequence[int]) -> bool:
        def logits_in(ball: Ball) -> list[tuple[Fraction, ...]]:
            return [centre, *(logits[i] for i in chosen if owners[i] == ball)]

        return not holds(prop, centre, logits_in)

    if not breaks(range(len(owners))):
        return None
    return every[1:][_fewest(list(range(len(owners))), breaks)]


def _fewest(chosen: list[int], breaks: Callable[[Sequence[int]], bool]) -> list[int]:
    """A subset that still breaks, from which nothing more can be left out."""
    size = max(1, len(chosen) // 2)
    while chosen and size:
        start = 0
        while start < len(chosen):
            rest = chosen[:start] + chosen[start + size :]
            if breaks(rest):
                chosen = rest
            else:
                start += size
        size //= 2
    return chosen
