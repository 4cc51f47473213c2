"""Links in rank coordinates: the fast heads against the plain ones, bit for bit where they may."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.heads import compile_property
from relaxcert.heads import ranked as ranked_module
from relaxcert.heads.links import EstimatedLinks
from relaxcert.heads.prefix import crossings, prefix_margins
from relaxcert.heads.ranked import ranked_rows
from relaxcert.lipschitz.pairs import EstimatedPairs, row_distances
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, Targeted, TopK
from tests.heads import plain
from tests.networks import randn


@st.composite
def prefix_properties(draw, count: int):
    k = draw(st.integers(1, count - 1))
    order = draw(st.sampled_from(["uniform", "pointwise"]))
    sets = AffinitySets([[0, 1], [1, 2], *([c] for c in range(3, count))], count)
    return draw(
        st.sampled_from(
            [
                Local(eps=1),
                TopK(k, eps=1),
                RelaxedTopK(k, eps=1, quantifier=order),
                Affinity(sets, eps=1, quantifier=order),
            ]
        )
    )


@st.composite
def estimated(draw, *, distinct: bool):
    """A property and dyadic links, on which float64 computes exactly in any order."""
    count = draw(st.integers(3, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    batch = draw(st.integers(1, 4))
    high, scale = (2**30, 2.0**-20) if distinct else (5, 1.0)
    logits = torch.randint(0, high, (batch, count), generator=generator).double() * scale
    pairs = torch.randint(0, high, (count, count), generator=generator).double() * scale
    return draw(prefix_properties(count)), logits, pairs, draw(st.sampled_from([0.0, 0.25, 1.0]))


def fast_and_plain(case):
    """Margin, stand-in and the gradients of the margin in logits and pairs, both ways."""
    prop, logits, pairs, reach = case
    results = []
    head = compile_property(prop, logits.shape[1])
    for way in ("fast", "plain"):
        inputs = logits.clone().requires_grad_(), pairs.clone().requires_grad_()
        links = EstimatedLinks(inputs[0], inputs[1], reach)
        if way == "fast":
            found = head.margin(inputs[0], lambda ball, links=links: links)
            margin, stand_in = found.margin, found.fallback
        else:
            margin, stand_in = plain.margins(prop, links, inputs[0])
        useful = torch.where(margin.isfinite(), margin, stand_in)
        useful.sum().backward()
        gradients = [value.grad for value in inputs]
        results.append((margin.detach(), useful.detach(), *gradients))
    return results


@given(estimated(distinct=True))
@settings(max_examples=150, deadline=None)
def test_margins_and_gradients_are_those_of_the_plain_head_where_nothing_is_tied(case):
    fast, slow = fast_and_plain(case)
    for one, other in zip(fast, slow, strict=True):
        assert torch.equal(one, other)


@given(estimated(distinct=False))
@settings(max_examples=150, deadline=None)
def test_margins_are_those_of_the_plain_head_where_much_is_tied(case):
    fast, slow = fast_and_plain(case)
    assert torch.equal(fast[0], slow[0])
    assert torch.equal(fast[1], slow[1])


@given(estimated(distinct=False))
@settings(max_examples=150, deadline=None)
def test_where_pairs_are_tied_the_gradient_is_that_of_one_active_pair(case):
    """Uniform order: +1 for a class, -1 for another, whose link is the margin itself."""
    prop, logits, pairs, reach = case
    if prop.quantifier == "pointwise":
        return
    (margin, useful, gradient, _), _ = fast_and_plain(case)
    for row in range(len(logits)):
        if not bool(margin[row].isfinite()):
            continue
        assert sorted(gradient[row].tolist()) == [-1.0, *[0.0] * (logits.shape[1] - 2), 1.0]
        winner, loser = int(gradient[row].argmax()), int(gradient[row].argmin())
        link = logits[row, winner] - logits[row, loser] - reach * pairs[winner, loser]
        assert link == useful[row]


def test_gradients_stay_finite_where_no_prefix_may_serve():
    sets = AffinitySets([[0, 1], [2], [3]], 4)
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]], requires_grad=True)
    weight = randn(0, 4, 3, dtype=torch.float32).requires_grad_()
    links = EstimatedLinks(logits, EstimatedPairs(weight, "l2"), 10.0)
    head = compile_property(Affinity(sets, eps=1), 4)
    found = head.margin(logits.roll(1, 1), lambda ball: links)
    torch.where(found.margin.isfinite(), found.margin, found.fallback).sum().backward()
    assert bool(logits.grad.isfinite().all() & weight.grad.isfinite().all())


@pytest.mark.parametrize("order", ["uniform", "pointwise"])
def test_parts_of_a_batch_give_the_bits_of_the_whole(monkeypatch, order):
    logits, weight = randn(1, 50, 20), randn(2, 20, 8)
    head = compile_property(RelaxedTopK(4, eps=1, quantifier=order), 20)

    def run():
        links = EstimatedLinks(logits, EstimatedPairs(weight, "l2"), 0.1)
        return head(logits, lambda ball: links)

    whole = run()
    monkeypatch.setattr(ranked_module, "_IN_CACHE", 7 * 4 * 20 * 8)
    parts = run()
    assert torch.equal(whole.margin, parts.margin)
    assert torch.equal(whole.sets, parts.sets)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("batch", [4, 200])
def test_needed_pairs_have_the_values_and_gradients_of_the_table(norm, batch):
    """4 pairs: rows are gathered; 200 pairs of 10 classes: the table is cheaper."""
    weight = randn(3, 10, 6).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(0, 10, (2, batch, 1), generator=generator)
    factors = randn(4, batch, 1)
    pairs = EstimatedPairs(weight, norm)
    ((pairs.between(first, second) * factors).sum()).backward()
    wanted = weight.detach().clone().requires_grad_()
    table = row_distances(wanted, norm)
    ((table[first, second] * factors).sum()).backward()
    torch.testing.assert_close(pairs.between(first, second), table[first, second])
    torch.testing.assert_close(weight.grad, wanted.grad)
    torch.testing.assert_close(pairs.rows(first[:, 0]), table.detach()[first[:, 0]])
    assert bool(weight.grad.isfinite().all())


def test_the_search_of_many_classes_uses_products_and_agrees(monkeypatch):
    weight = randn(5, 40, 7) + 100.0
    wanted = row_distances(weight, "l2")
    monkeypatch.setattr("relaxcert.lipschitz.pairs._DIRECT", 10)
    torch.testing.assert_close(
        EstimatedPairs(weight, "l2").rows(torch.arange(40)), wanted, rtol=1e-6, atol=1e-6
    )
    monkeypatch.setattr("relaxcert.lipschitz.pairs.MOST_TABULATED", 10)
    pairs = EstimatedPairs(weight, "l2")
    assert pairs.table is None
    torch.testing.assert_close(pairs.rows(torch.arange(40)), wanted, rtol=1e-6, atol=1e-6)


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_prefix_margins_in_rank_coordinates_are_the_plain_ones(seed, depth, more):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-4, 9, (3, depth, depth + 1 + more), generator=generator).double()
    top = torch.rand(3, rows.shape[2], generator=generator).topk(depth).indices
    inside, tails = plain.split(rows, top)
    found = ranked_rows(rows, top)
    assert torch.equal(prefix_margins(found), plain.prefix_margins(tails))
    masked = found[:, None].masked_fill(~crossings(depth), torch.inf).amin((2, 3))
    assert torch.equal(masked, plain.prefix_margins(tails))
    assert torch.equal(found[:, :, :depth], inside)


def test_targeted_margin_and_gradient_are_the_plain_ones():
    prop = Targeted([[0, 1], [1, 0, 2], [2, 3], [3, 4], [4]], eps=1)
    head = compile_property(prop, 5)
    results = []
    for way in ("fast", "plain"):
        logits = randn(6, 40, 5).requires_grad_()
        pairs = randn(7, 5, 5).abs().requires_grad_()
        links = EstimatedLinks(logits, pairs, 0.3)
        if way == "fast":
            margin = head.margin(logits, lambda ball, links=links: links).margin
        else:
            predicted = logits.argmax(1, keepdim=True)
            best = links.rows(head.rows[predicted[:, 0]]).amax(1)
            margin = best.masked_fill(head.allowed[predicted[:, 0]], torch.inf).amin(1)
        margin.sum().backward()
        results.append((margin, logits.grad, pairs.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
