"""Checks of the certificates of one network: against the formula, samples, attacks, ties."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import torch
from hypothesis import strategies as st
from hypothesis import target
from torch import Tensor, nn

from relaxcert.attacks import attack
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.head import compile_property
from relaxcert.heads.links import EstimatedLinks
from relaxcert.lipschitz.matrix import DUAL_ORDER
from relaxcert.spec import reference
from relaxcert.spec.ball import Ball
from relaxcert.spec.formula import lower_bound
from relaxcert.spec.prefix import Local, PrefixProperty
from relaxcert.spec.property import Property
from relaxcert.spec.ranking import Ranking
from relaxcert.testing.exact import exact_rows, exact_vector, forward
from relaxcert.testing.property_head import same_links
from relaxcert.testing.property_meaning import leaves_of
from relaxcert.testing.running import BrokenCertificate, ConformanceFailure, for_all, require
from relaxcert.testing.sampling import broken_at

Link = Callable[[Ball, int, int], float]


def check_whole_ball(net: GloRoNet, points: Tensor) -> int:
    """Every certificate follows from f, K and the whole eps by the property's formula.

    The margin is computed anew from the logits, the verified K and the eps of the property, by the
    formula layer and in plain float64; a certificate whose margin is clearly negative was given
    for a smaller ball, or for other constants. Returns how many certificates were recomputed.

    Raises:
        BrokenCertificate: names the point, the margin and what eps it would be good for.
    """
    certificates = net.certify(points)
    chosen = certificates.certified.nonzero().flatten().tolist()
    constants = {ball: _constants(net, ball) for ball in dict.fromkeys(net.prop.balls)}
    for index in chosen:
        logits = certificates.logits[index]
        margin = _margin(net.prop, logits, constants)
        doubt = 1e-5 * max(float(k.max()) for k in constants.values())
        if margin < -(doubt + 1e-9 * float(logits.abs().max())):
            raise BrokenCertificate(
                f"point {index} is certified, but its margin over the whole ball is {margin:.6g}: "
                f"the certificate does not count all of eps ({net.prop!r}).",
                points[index],
                None,
            )
    return len(chosen)


def _constants(net: GloRoNet, ball: Ball) -> Tensor:
    """eps K, (C, C), float64: from the weights of the last layer, or as verified."""
    bounds = net.verify().norms[ball.norm]
    last = last_linear(net)
    pairs = bounds.pairs.cpu()
    if last is not None:
        rows = last.weight.detach().double().cpu()
        pairs = (rows[:, None] - rows[None]).norm(p=DUAL_ORDER[ball.norm], dim=2)
    return float(ball.eps) * bounds.product * pairs


def _margin(prop: Property, logits: Tensor, constants: dict[Ball, Tensor]) -> float:
    pointwise = any(
        isinstance(leaf, PrefixProperty) and leaf.quantifier == "pointwise"
        for leaf in leaves_of(prop)
    )
    if pointwise:  # the formula's clauses know less than the head: transitivity
        (shared, *others) = constants.values()
        widest = torch.stack([shared, *others]).amin(0)
        links = EstimatedLinks(logits[None].cpu(), widest, 1.0)
        head = compile_property(prop, len(logits))
        return float(head(logits[None].cpu(), same_links(links)).margin)
    values = logits.tolist()

    def link(ball: Ball, j: int, i: int) -> float:
        return values[j] - values[i] - float(constants[ball][j, i])

    exact = [Fraction(value) for value in values]
    return float(lower_bound(prop.formula(Ranking.of(exact)), link))


def check_attack(net: GloRoNet, points: Tensor, *, steps: int, restarts: int) -> tuple[int, int]:
    """An attack breaks no certificate; returns how many points are certified and are falsified.

    Raises:
        BrokenCertificate: with the point and the x' of the attack.
    """
    certificates = net.certify(points)
    result = attack(net, points, steps=steps, restarts=restarts)
    for index in (result.falsified & certificates.certified).nonzero().flatten().tolist():
        raise BrokenCertificate(
            f"point {index} is certified, but an attack breaks {net.prop!r} there.",
            points[index],
            result.witnesses[index][result.broken[index]],
        )
    return int(certificates.certified.sum()), int(result.falsified.sum())


def check_samples(net: GloRoNet, points: Tensor) -> int:
    """No sampled x' of the ball of a certified point breaks the definition; returns the examples.

    Under a profile with a target phase, hypothesis climbs towards the smallest margin.

    Raises:
        BrokenCertificate: with the point and the x'.
    """
    certificates = net.certify(points)
    chosen = certificates.certified.nonzero().flatten().tolist()
    if not chosen:
        return 0
    backbone = copy.deepcopy(net.backbone).double().eval()

    @for_all(st.sampled_from(chosen), st.integers(0, 2**16), shrink=False)
    def examples(index: int, seed: int) -> None:
        point = points[index].double()
        target(-float(certificates.margin[index]), label="smallest margin")
        witnesses = broken_at(net.prop, backbone, point, seed)
        if witnesses is not None:
            raise BrokenCertificate(
                f"point {index} is certified, but {net.prop!r} fails at a sampled x'.",
                point,
                witnesses,
            )

    return int(examples)  # pyright: ignore[reportArgumentType]  the decorator runs it


def check_ties(net: GloRoNet, points: Tensor) -> int:
    """With two classes made equal, no certificate separates them; returns the ties that were made.

    In a copy, the last layer's row of a class is replaced by that of its neighbour in the ranking
    at x, so that the two logits are equal everywhere; then the definition decides at x itself.

    Raises:
        BrokenCertificate: a tie is certified.
        ConformanceFailure: the last layer is not nn.Linear, so no tie can be made.
    """
    count = 0
    ranked = net.certify(points).logits.argsort(dim=1, descending=True, stable=True)
    for index, order in enumerate(ranked.tolist()):
        for k in range(1, len(order)):
            for tied in (order[k - 1 : k + 1], order[k - 1 : k + 2]):
                for other in _with_equal_classes(net, tied):
                    count += 1
                    _check_tied(other, points[index], tied)
    return count


def _with_equal_classes(net: GloRoNet, tied: list[int]) -> Iterator[GloRoNet]:
    """A copy with the same head, and one with a tiny ball where everything but a tie certifies."""
    same = copy.deepcopy(net).eval()
    last = last_linear(same)
    if last is None:
        raise ConformanceFailure("the last layer is not nn.Linear: no tie can be made.")
    with torch.no_grad():
        for label in tied[1:]:
            last.weight[label] = last.weight[tied[0]]
            last.bias[label] = last.bias[tied[0]]
    yield same
    yield GloRoNet(same.backbone, net.prop.with_eps(Fraction(1, 10**9)), net.num_classes).eval()


def _check_tied(net: GloRoNet, point: Tensor, tied: list[int]) -> None:
    certificates = net.certify(point[None])
    logits = certificates.logits[0].clone()
    logits[tied] = logits[tied[0]].clone()  # as real numbers they are equal
    (centre,) = exact_rows(logits[None])
    holds = reference.holds(net.prop, centre, lambda _: [centre])
    members = certificates.sets[0][tied]
    split = bool(members.any()) and not bool(members.all()) and int(certificates.k[0]) > 0
    answered = int(net(point[None].to(_dtype(net)))[0].argmax()) != net.num_classes
    if (bool(certificates.certified[0]) or answered) and (not holds or split):
        raise BrokenCertificate(
            f"classes {tied} have equal logits everywhere, and yet {net.prop!r} is certified.",
            point,
            None,
        )


def check_non_finite(net: GloRoNet, points: Tensor) -> int:
    """NaN and infinity, in one place and everywhere, are never certified nor answered."""
    net = copy.deepcopy(net).eval()
    dtype = _dtype(net)
    count = 0
    for bad in (math.nan, math.inf, -math.inf):
        one, every = points[:1].clone().to(dtype), torch.full_like(points[:1], bad).to(dtype)
        one.view(-1)[0] = bad
        for spoilt in (one, every):
            count += 1
            certified = bool(net.certify(spoilt).certified.any())
            require(not certified, f"a point with {bad} is certified.")
            answered = bool((net(spoilt).argmax(1) != net.num_classes).any())
            require(not answered, f"a point with {bad} is answered with a class.")
    return count


def check_forward(net: GloRoNet, points: Tensor) -> int:
    """In eval mode an argmax other than bottom implies a certificate; batches change nothing.

    Returns:
        How many points were answered with a class.
    """
    net = copy.deepcopy(net).eval()
    given = points.to(_dtype(net))
    with torch.no_grad():
        answered = net(given).argmax(1) != net.num_classes
    certificates = net.certify(given)
    wrong = (answered & ~certificates.certified).nonzero().flatten().tolist()
    require(not wrong, f"points {wrong} are answered with a class, but not certified.")
    alone = torch.cat([net.certify(point[None]).margin for point in given[:8]])
    close = torch.allclose(alone, certificates.margin[:8], rtol=1e-9, atol=1e-9, equal_nan=True)
    require(close, "margins depend on the batch that a point is in.")
    return int(answered.sum())


def check_exact_margins(net: GloRoNet, points: Tensor) -> int:
    """With a ball of almost no size, margins lie at or below the exact differences of logits.

    They are computed in floating point and rounded down; without that, about half of them would
    lie above. The exact logits are those of Fractions. Returns how many margins were compared.

    Raises:
        BrokenCertificate: a margin exceeds the exact one.
        UnsupportedLayer: a layer has no exact evaluation.
    """
    tiny = GloRoNet(net.backbone, Local(eps=Fraction(1, 10**60)), net.num_classes)
    margins = tiny.certify(points).margin
    for index, point in enumerate(points):
        logits = forward(net.backbone, exact_vector(point))
        highest, second = sorted(logits)[:-3:-1]
        if Fraction(float(margins[index])) > highest - second:
            raise BrokenCertificate(
                f"the margin of point {index} is {float(margins[index])!r}, but exactly it is "
                f"{float(highest - second)!r}: rounding is not counted.",
                point,
                None,
            )
    return len(points)


def check_radii(net: GloRoNet, points: Tensor) -> int:
    """Certified at eps implies certified at half of it; and the radius says up to where."""
    certificates = net.certify(points)
    half = min(ball.eps for ball in net.prop.balls) / 2
    smaller = _with_eps(net, half).certify(points)
    lost = (certificates.certified & ~smaller.certified).nonzero().flatten().tolist()
    require(not lost, f"points {lost} are certified, but not on a ball of half the radius.")
    for index, radius in _radii(certificates)[:8]:
        inside = _with_eps(net, Fraction(radius) * (1 - Fraction(1, 10**6)))
        beyond = _with_eps(net, Fraction(radius) * (1 + Fraction(1, 100)))
        point = points[index][None]
        require(
            bool(inside.certify(point).certified) and not bool(beyond.certify(point).certified),
            f"point {index} has a certified radius of {radius}, which is not where it ends.",
        )
    return len(points)


def _radii(certificates: Certificates) -> list[tuple[int, float]]:
    found = enumerate(certificates.radius.tolist())
    simple = len(certificates.prop.balls) == 1
    return [(index, r) for index, r in found if simple and 0.0 < r < 1e30]


def _with_eps(net: GloRoNet, eps: Fraction) -> GloRoNet:
    return GloRoNet(net.backbone, net.prop.with_eps(eps), net.num_classes)


def last_linear(net: GloRoNet) -> nn.Linear | None:
    """The last layer, if it is nn.Linear with one output a class."""
    path = net.lipschitz.table()[-1].path
    modules = dict(net.backbone.named_modules())
    layer = modules.get(path)
    fits = isinstance(layer, nn.Linear) and layer.out_features == net.num_classes
    return layer if fits and isinstance(layer, nn.Linear) else None


def _dtype(net: GloRoNet) -> torch.dtype:
    return next((p.dtype for p in net.backbone.parameters()), torch.float32)
