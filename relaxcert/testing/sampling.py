"""Points of a ball at which a certificate would break first, and certificates that do break."""

from __future__ import annotations

import copy
from collections.abc import Iterable
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
        witness: x', (*shape), a point of a ball of the property at which it is (also) broken.
    """

    index: int
    point: Tensor
    witness: Tensor


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
            witness = broken_at(net.prop, backbone, point, seed)
            if witness is not None:
                found.append(Violation(index, point, witness))
    return found


def broken_at(prop: Property, backbone: nn.Module, point: Tensor, seed: int) -> Tensor | None:
    """A sampled x' at which ``prop`` (also) breaks around ``point``, or None if it holds on all."""
    logits: dict[Ball, list[tuple[Fraction, ...]]] = {}
    samples: dict[Ball, Tensor] = {}
    with torch.no_grad():
        (centre,) = exact_rows(backbone(point[None]))
    for ball in dict.fromkeys(prop.balls):
        samples[ball] = points_of_ball(backbone, point, ball, seed)
        with torch.no_grad():
            logits[ball] = [centre, *exact_rows(backbone(samples[ball]))]
    if holds(prop, centre, logits.__getitem__):
        return None
    return _first_break(prop, centre, samples, logits, point)


def _first_break(
    prop: Property,
    centre: tuple[Fraction, ...],
    samples: dict[Ball, Tensor],
    logits: dict[Ball, list[tuple[Fraction, ...]]],
    point: Tensor,
) -> Tensor:
    for ball, points in samples.items():
        for row, values in zip(points, logits[ball][1:], strict=True):
            if not holds(prop, centre, lambda _, values=values: [values]):
                return row
    # The order at x alone breaks it, or each prefix length is broken at a point of its own.
    first = next(iter(samples.values()))
    return first[0] if len(first) else point
