"""Proved links in rank coordinates: below the exact values, and no further than need be."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.heads import GloRoNet, compile_property
from relaxcert.heads import certify as certify_module
from relaxcert.heads import links as links_module
from relaxcert.heads.links import ProvedLinks, RadiusLinks
from relaxcert.heads.ranked import ranked_rows
from relaxcert.lipschitz.matrix import pair_distances
from relaxcert.lipschitz.pairs import TablePairs, VerifiedRows
from relaxcert.spec import RelaxedTopK, Targeted
from tests.heads import plain
from tests.networks import linear, randn

# Sizes of many orders of magnitude, so that every addition rounds.
floats = st.floats(-100, 100, allow_subnormal=False)
sizes = st.floats(0, 10, allow_subnormal=False)


@st.composite
def proved(draw, count: int = 4, depth: int = 2):
    logits = torch.tensor([draw(st.lists(floats, min_size=count, max_size=count))]).double()
    slack = torch.tensor([draw(st.lists(sizes, min_size=count, max_size=count))]).double()
    entries = draw(st.lists(sizes, min_size=count * count, max_size=count * count))
    pairs = torch.tensor(entries, dtype=torch.float64).view(count, count)
    links = ProvedLinks(logits, slack, torch.tensor([draw(sizes)]).double(), pairs, draw(sizes))
    return links, logits.topk(depth, 1).indices


def exact_links(links: ProvedLinks, top, *, centre: bool = False) -> list[list[Fraction]]:
    """The exact value of each link in rank coordinates, by rational arithmetic."""
    number = [Fraction(v) for v in links.logits[0].tolist()]
    slack = [Fraction(v) for v in links.slack[0].tolist()]
    reach = Fraction(0) if centre else Fraction(links.reach)
    distance = Fraction(links.error.item()) + reach

    def link(j, i):
        gap = number[j] - number[i] - slack[j] - slack[i]
        return gap - distance * Fraction(links.pairs[j, i].item())

    best = top[0].tolist()
    rest = [i for i in range(len(number)) if i not in best]
    return [[*(link(j, i) for i in best), min(link(j, i) for i in rest)] for j in best]


def too_high(links: ProvedLinks, top) -> int:
    """How many ranked links exceed the exact ones (those of a class over itself do not count)."""
    count = 0
    for centre in (False, True):
        found = (links.centre_ranked(top) if centre else links.ranked(top))[0].tolist()
        wanted = exact_links(links, top, centre=centre)
        count += sum(
            Fraction(found[a][b]) > wanted[a][b]
            for a in range(len(found))
            for b in range(len(found) + 1)
            if a != b
        )
    return count


@given(proved())
@settings(max_examples=200, deadline=None)
def test_ranked_links_never_exceed_the_exact_ones_and_are_close_to_the_plain_ones(case):
    links, top = case
    assert too_high(links, top) == 0
    slow = ranked_rows(links.rows(top), top)
    size = links.logits.abs().max() + links.slack.max()
    distance = links.error + links.reach
    near = 2.0**-48 * (size + distance * links.pairs.max()) + 2.0**-1050
    assert bool(((links.ranked(top) - slow).abs() <= near).all())


def random_links(seed: int, batch: int, classes: int, reach: float = 0.1) -> ProvedLinks:
    logits, slack = randn(seed, batch, classes), randn(seed + 1, batch, classes).abs() * 1e-9
    weight = randn(seed + 2, classes, 5)
    pairs = pair_distances(weight, "l2")
    error = randn(seed + 3, batch).abs() * 1e-9
    return ProvedLinks(logits, slack, error, pairs, reach, product=1.5)


def test_without_the_allowance_rounding_is_found_to_break_the_bound(monkeypatch):
    """The mutation that the property above must notice."""

    def broken() -> int:
        count = 0
        for seed in range(40):
            links = random_links(10 * seed, 1, 4, reach=0.1 * seed)
            count += too_high(links, links.logits.topk(2, 1).indices)
        return count

    assert broken() == 0
    monkeypatch.setattr(links_module, "_ALLOWED", 0.0)
    assert broken() > 10


@pytest.mark.parametrize("order", ["uniform", "pointwise"])
def test_verdicts_are_those_of_the_plain_head(order):
    prop = RelaxedTopK(3, eps=1, quantifier=order)
    head = compile_property(prop, 12)
    certified = 0
    for seed in range(5):
        links = random_links(seed, 400, 12)
        fast = head(links.logits, lambda ball, links=links: links)
        margin, _ = plain.margins(prop, links, links.logits)
        assert torch.equal(fast.margin > 0, margin > 0)
        torch.testing.assert_close(fast.margin, margin, rtol=1e-12, atol=1e-13)
        certified += int((margin > 0).sum())
    assert 300 < certified < 1900


@pytest.mark.parametrize("prop", [RelaxedTopK(2, eps=1), Targeted([[0, 1], [1], [2]], eps=1)])
def test_whatever_is_not_finite_is_not_certified(prop):
    base = random_links(1, 3, 3)
    for name in ("logits", "slack", "error", "pairs"):
        for bad in (math.inf, math.nan):
            values = {n: getattr(base, n).clone() for n in ("logits", "slack", "error", "pairs")}
            values[name][...] = bad
            links = ProvedLinks(**values, reach=0.0, product=1.0)
            outcome = compile_property(prop, 3)(links.logits, lambda ball, links=links: links)
            assert not bool((outcome.margin > 0).any()), (name, bad)
            assert not bool((outcome.radius > 0).any()), (name, bad)


def test_one_bad_point_leaves_the_others_as_they_are():
    links = random_links(1, 3, 3)
    spoilt = links.logits.clone()
    spoilt[1] = math.nan
    other = ProvedLinks(spoilt, links.slack, links.error, links.pairs, links.reach)
    top = links.logits.topk(2, 1).indices
    assert torch.equal(links.ranked(top)[[0, 2]], other.ranked(top)[[0, 2]])


@given(proved(), st.floats(1e-6, 1e6))
@settings(max_examples=150, deadline=None)
def test_ranked_radii_never_exceed_the_exact_ones(case, product):
    links, top = case
    found = RadiusLinks(links, product).ranked(top)[0].tolist()
    gaps = exact_links(links, top, centre=True)
    distances = [links.pairs[j].tolist() for j in top[0].tolist()]
    best = top[0].tolist()
    for a, b in ((0, 1), (1, 0)):
        radius = found[a][b]
        distance = Fraction(distances[a][best[b]]) * Fraction(product)
        if gaps[a][b] <= 0:
            assert radius == 0.0
        elif distance == 0:
            assert radius in (0.0, math.inf)
        else:
            assert radius < math.inf
            assert Fraction(radius) <= gaps[a][b] / distance


def test_ranked_radii_are_close_to_the_plain_ones_and_inf_for_constants():
    links = random_links(5, 300, 9)
    links.pairs[3] = links.pairs[:, 3] = 0.0
    top = links.logits.topk(3, 1).indices
    for product in (1.5, 0.0, math.inf):
        radii = RadiusLinks(links, product)
        slow, fast = ranked_rows(radii.rows(top), top), radii.ranked(top)
        diagonal = torch.eye(3, 4, dtype=torch.bool).expand_as(slow)
        slow, fast = slow.masked_fill(diagonal, 0.0), fast.masked_fill(diagonal, 0.0)
        assert torch.equal(slow.isinf(), fast.isinf())
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    assert bool(RadiusLinks(links, 1.5).ranked(top)[:, 0].isinf().any())


def test_tiny_distances_do_not_overflow_into_an_infinite_radius():
    """1 / 1e-320 exceeds float64, yet the logits do not differ by a constant."""
    logits = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    pairs = torch.tensor([[0.0, 1e-320], [1e-320, 0.0]], dtype=torch.float64)
    zero = torch.zeros(1, 2, dtype=torch.float64)
    links = ProvedLinks(logits, zero, zero[:, 0], pairs, 0.0)
    assert TablePairs(pairs).tiny
    radius = RadiusLinks(links, 1.0).ranked(torch.tensor([[0]]))[0, 0, 1]
    assert 0.0 < float(radius) < math.inf


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("scale", [1.0, 1e-170, 1e160])
def test_rows_proved_on_demand_bound_the_exact_distances_closely(norm, scale):
    weight = randn(8, 30, 6) * scale
    weight[7] = weight[3]
    weight[9] = weight[4] * (1 + 1e-12)
    pairs, table = VerifiedRows(weight, norm), pair_distances(weight, norm)
    labels = torch.arange(30)
    rows = pairs.rows(labels)
    between = pairs.between(labels[:, None].expand(30, 30), labels[None].expand(30, 30))
    low = table * (1 - 1e-13) - 1e-13 * scale  # the table is exact but for a few roundings
    close = torch.full_like(table, 1e-6 * scale) + 1e-12 * table
    for found in (rows, between):
        assert bool((found >= low).all())
        assert bool((found - table <= close).all())
    assert float(pairs.largest) >= float(table.max())
    if norm == "l2":
        for j, i in [(9, 4), (7, 3), *((j, j + 1) for j in range(20))]:
            squared = exact_square(weight[j], weight[i])
            assert Fraction(rows[j, i].item()) ** 2 >= squared
            assert Fraction(between[j, i].item()) ** 2 >= squared


def exact_square(first, second) -> Fraction:
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return sum((Fraction(a) - Fraction(b)) ** 2 for a, b in pairs)


def test_certificates_of_many_classes_agree_with_those_of_the_table():
    """The same network, its pairs from a table and row by row."""
    net = GloRoNet(torch.nn.Sequential(linear(randn(1, 40, 6))), RelaxedTopK(3, eps=0.05))
    inputs = randn(2, 60, 6)
    bounds = net.verify()
    forward = certify_module.forward_with_error(inputs, bounds.exact, bounds)
    links = certify_module.proved_links(forward, bounds)(net.prop.ball)
    rows = VerifiedRows(net.backbone[0].weight.detach(), "l2")
    on_demand = ProvedLinks(links.logits, links.slack, links.error, rows, links.reach)
    one, other = (
        net.head(links.logits, lambda ball, chosen=chosen: chosen) for chosen in (links, on_demand)
    )
    assert torch.equal(one.loosest, other.loosest)
    assert torch.equal(one.sets, other.sets)
    assert 0 < int((one.margin > 0).sum()) < 60
    torch.testing.assert_close(one.margin, other.margin, rtol=1e-8, atol=1e-8)
