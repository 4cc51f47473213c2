"""float32 first, float64 where it must: the verdicts of float64, and both bounds of a link hold."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from relaxcert.errors import InvalidInput
from relaxcert.heads import Certificates, GloRoNet
from relaxcert.heads import float32_first as module
from relaxcert.heads.links import PossibleLinks
from relaxcert.nn import MinMax
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, Targeted, TopK
from tests.heads.test_proved_links import exact_links, proved, random_links
from tests.networks import linear, randn

SETS = AffinitySets([[0, 1], [1, 2], [2, 3], [4]], 5)
PROPERTIES = {
    "local": Local(eps="0.05"),
    "top-2": TopK(2, eps="0.05"),
    "uniform": RelaxedTopK(3, eps="0.05"),
    "pointwise": RelaxedTopK(3, eps="0.05", quantifier="pointwise"),
    "affinity": Affinity(SETS, eps="0.05"),
    "targeted": Targeted.neighbours([3, 1, 0, 2, 4], eps="0.05"),
    "and": Local(eps="0.02") & RelaxedTopK(3, eps="0.08", norm="linf"),
    "or": Local(eps="0.05") | TopK(3, eps="0.05"),
}


def network(prop, seed: int = 0) -> GloRoNet:
    backbone = nn.Sequential(
        linear(randn(seed, 16, 6), randn(seed + 1, 16), dtype=torch.float32),
        MinMax(),
        linear(randn(seed + 2, 5, 16) / 4, randn(seed + 3, 5), dtype=torch.float32),
    )
    return GloRoNet(backbone, prop)


def near_the_boundary(net: GloRoNet, count: int, seed: int = 0) -> torch.Tensor:
    """Points whose margin is close to 0: on the segment between a certified and another point,
    halved until they are neighbours; then all float32 numbers around."""
    inputs = randn(seed, 400, 6, dtype=torch.float32)
    yes = net.certify(inputs).certified
    high, low = inputs[yes][:count], inputs[~yes][:count]
    size = min(len(high), len(low))
    high, low = high[:size].clone(), low[:size].clone()
    for _ in range(40):
        middle = (high + low) / 2
        found = net.certify(middle).certified[:, None]
        high, low = torch.where(found, middle, high), torch.where(found, low, middle)
    steps = torch.linspace(-1e-5, 1e-5, 9)[:, None, None]
    return torch.cat([high, low, (high * (1 + steps)).flatten(0, 1)])


def same_verdicts(one: Certificates, other: Certificates) -> None:
    for name in ("certified", "prediction", "k", "strictest_k", "sets", "strictest_sets"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for left, right in zip(one.parts, other.parts, strict=True):
        same_verdicts(left, right)


@pytest.mark.parametrize("name", list(PROPERTIES))
def test_verdicts_are_those_of_float64_on_random_points_and_beside_the_boundary(name):
    net = network(PROPERTIES[name])
    inputs = torch.cat([randn(7, 600, 6, dtype=torch.float32), near_the_boundary(net, 20)])
    wanted, found = net.certify(inputs), net.certify(inputs, mode="float32-first")
    same_verdicts(found, wanted)
    assert bool(((found.margin > 0) == found.certified).all())
    assert bool((found.margin <= wanted.margin + 1e-12).all())
    assert 0 < int(wanted.certified.sum()) < len(inputs)


@pytest.mark.parametrize("name", list(PROPERTIES))
def test_most_points_are_decided_in_float32_and_those_at_the_boundary_are_not(name, monkeypatch):
    net = network(PROPERTIES[name])
    taken = []
    original = module.merged
    monkeypatch.setattr(
        "relaxcert.heads.gloronet.merged",
        lambda first, again, rows: taken.append(len(rows)) or original(first, again, rows),
    )
    net.certify(randn(7, 600, 6, dtype=torch.float32), mode="float32-first")
    assert sum(taken) < 30
    taken.clear()
    boundary = near_the_boundary(net, 20)
    net.certify(boundary, mode="float32-first")
    assert sum(taken) > len(boundary) / 4


def test_deciding_without_the_upper_bound_is_found(monkeypatch):
    """The mutation that the comparison of verdicts must notice: float32's word is taken."""
    monkeypatch.setattr(module, "_agree", lambda lower, upper: lower.margin == lower.margin)
    net = network(PROPERTIES["uniform"])
    inputs = near_the_boundary(net, 20)
    with pytest.raises(AssertionError, match="certified"):
        same_verdicts(net.certify(inputs, mode="float32-first"), net.certify(inputs))


@given(proved())
@settings(max_examples=150, deadline=None)
def test_possible_links_are_never_below_the_exact_ones(case):
    links, top = case
    exact = Fraction(links.error.item())
    for centre in (False, True):
        upper = PossibleLinks(links)
        found = (upper.centre_ranked(top) if centre else upper.ranked(top))[0].tolist()
        lowest = exact_links(links, top, centre=centre)
        for a in range(2):
            for b, i in enumerate(top[0].tolist()):
                if a == b:
                    continue
                # The lower bound subtracts both slacks and e D; the upper one adds them.
                j = top[0, a].item()
                spread = Fraction(links.slack[0, j].item()) + Fraction(links.slack[0, i].item())
                spread += exact * Fraction(links.pairs[j, i].item())
                assert Fraction(found[a][b]) >= lowest[a][b] + 2 * spread


def test_rows_of_possible_links_reduce_to_the_ranked_ones():
    links = random_links(3, 50, 8)
    top = links.logits.topk(3, 1).indices
    upper = PossibleLinks(links)
    rows = upper.rows(top)
    inside = rows.gather(2, top[:, None].expand(-1, 3, -1))
    assert torch.equal(upper.ranked(top)[:, :, :3], inside)
    rest = rows.scatter(2, top[:, None].expand(-1, 3, -1), torch.inf).amin(2)
    assert torch.equal(upper.ranked(top)[:, :, 3], rest)


def test_points_that_float32_does_not_hold_are_taken_in_float64():
    net = network(PROPERTIES["uniform"])
    inputs = randn(9, 100, 6) + 1e-12
    one, other = net.certify(inputs), net.certify(inputs, mode="float32-first")
    same_verdicts(one, other)
    assert torch.equal(one.margin, other.margin)


def test_not_finite_points_dropout_and_float64_weights():
    net = network(PROPERTIES["uniform"])
    inputs = randn(9, 8, 6, dtype=torch.float32)
    inputs[2, 1], inputs[3, 0], inputs[4] = torch.nan, torch.inf, 3e38
    same_verdicts(net.certify(inputs), net.certify(inputs, mode="float32-first"))
    assert net.certify(inputs, mode="float32-first").margin[2].isnan()
    with_dropout = GloRoNet(nn.Sequential(*net.backbone, nn.Dropout(0.9)), net.prop).train()
    same_verdicts(with_dropout.certify(inputs, mode="float32-first"), net.certify(inputs))
    assert with_dropout.backbone[-1].training
    double = GloRoNet(net.backbone.double(), net.prop)
    wanted = double.certify(inputs)
    found = double.certify(inputs, mode="float32-first")
    same_verdicts(found, wanted)
    assert torch.equal(found.margin.nan_to_num(-1.0), wanted.margin.nan_to_num(-1.0))


def test_no_points_and_wrong_arguments():
    net = network(PROPERTIES["uniform"])
    assert len(net.certify(torch.zeros(0, 6), mode="float32-first")) == 0
    with pytest.raises(InvalidInput, match="do not fit"):
        net.certify(torch.zeros(2, 7), mode="float32-first")
    with pytest.raises(InvalidInput, match="float32-first"):
        net.certify(torch.zeros(2, 6), mode="fast")
