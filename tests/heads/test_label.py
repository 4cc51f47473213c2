"""The margin of a label is positive exactly at the points that count for the VRA."""

from __future__ import annotations

import warnings
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.heads.certify import proved_links
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.head import compile_property
from relaxcert.heads.label import label_margin
from relaxcert.heads.links import EstimatedLinks
from relaxcert.lipschitz.forward import forward_with_error
from relaxcert.metrics import certified_and_correct
from relaxcert.spec import Affinity, AffinitySets, Local, Property, RelaxedTopK, Targeted, TopK
from relaxcert.spec.prefix import PrefixProperty
from tests.networks import every_kind, randn, random_backbone

CLASSES = 5
ADJACENT = AffinitySets.adjacent(order=[3, 1, 0, 2, 4])


def served(prop: Property) -> bool:
    return isinstance(prop, PrefixProperty) and prop.quantifier == "uniform"


KINDS = [
    *(prop for prop in every_kind(CLASSES) if served(prop)),
    Affinity(ADJACENT, eps=0.1),
]


def links_of(logits: Tensor, seed: int, reach: float):
    points = randn(seed, CLASSES, 3)
    links = EstimatedLinks(logits, torch.cdist(points, points), torch.tensor(reach))
    return lambda ball: links


def by_enumeration(prop: PrefixProperty, links: Tensor, label: int) -> float:
    """The maximum over every admissible set that holds the label; links (classes, classes)."""
    sets = prop.affinity_sets
    allowed = [range(CLASSES)] if sets is None else sets.sets
    margins = [
        min(float(links[j, i]) for j in chosen for i in range(CLASSES) if i not in chosen)
        for k in prop.lengths()
        for members in allowed
        for chosen in combinations(sorted(members), k)
        if label in chosen
    ]
    return max(margins, default=-1.0)


@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5]))
def test_it_is_the_best_of_all_admissible_sets_with_the_label(prop, seed, reach):
    logits, labels = randn(seed, 8, CLASSES), torch.arange(8) % CLASSES
    links_in = links_of(logits, seed + 1, reach)
    found = label_margin(compile_property(prop, CLASSES), logits, links_in, labels)
    every = links_in(prop.ball).rows(torch.arange(CLASSES).expand(8, CLASSES))
    for row, label in enumerate(labels.tolist()):
        best = by_enumeration(prop, every[row], label)
        assert float(found[row]) <= best + 1e-12
        assert (float(found[row]) > 0) == (best > 0)
        if best > 0:
            assert float(found[row]) == pytest.approx(best)


@given(st.sampled_from(KINDS), st.integers(0, 200))
def test_it_is_positive_exactly_where_a_point_counts_for_the_vra(prop, seed):
    net = GloRoNet(random_backbone(seed, classes=CLASSES), prop.with_eps("0.02"))
    inputs, labels = randn(seed, 64, 4), torch.arange(64) % CLASSES
    bounds = net.verify()
    with torch.no_grad():
        forward = forward_with_error(inputs, bounds.exact, bounds)
        links_in = proved_links(forward, bounds)
        margin = label_margin(net.head, forward.logits, links_in, labels)
    counted = certified_and_correct(net.certify(inputs), labels)
    assert torch.equal(margin > 0, counted)


def test_both_answers_occur():
    net = GloRoNet(random_backbone(1, classes=CLASSES), Affinity(ADJACENT, eps="0.02"))
    inputs, labels = randn(1, 64, 4), torch.arange(64) % CLASSES
    margin = net.label_margins(inputs.float(), labels)[1]
    assert 0 < int((margin > 0).sum()) < 64


@given(st.sampled_from(KINDS), st.integers(0, 10**6))
def test_loss_and_gradient_are_finite_for_every_label(prop, seed):
    logits = randn(seed, 6, CLASSES).requires_grad_()
    labels = torch.arange(6) % CLASSES
    margin = label_margin(
        compile_property(prop, CLASSES), logits, links_of(logits, seed, 0.1), labels
    )
    (gradient,) = torch.autograd.grad(margin.sum(), logits)
    assert margin.isfinite().all()
    assert gradient.isfinite().all()


def test_a_label_that_lies_in_no_set_never_has_a_positive_margin():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prop = Affinity(AffinitySets([[0, 1], [2, 3]], CLASSES), eps=0.1)
    logits = 10.0 * torch.eye(CLASSES, dtype=torch.float64)
    links_in = links_of(logits, 0, 0.01)
    margin = label_margin(compile_property(prop, CLASSES), logits, links_in, torch.arange(CLASSES))
    assert (margin[:4] > 0).all()
    assert margin[4] == 0.0


@pytest.mark.parametrize(
    "prop",
    [
        Targeted.neighbours([0, 1, 2, 3, 4], eps=0.1),
        Local(eps=0.1) & TopK(2, eps=0.1),
        RelaxedTopK(2, eps=0.1, quantifier="pointwise"),
    ],
)
def test_properties_without_one_set_are_refused(prop):
    net = GloRoNet(random_backbone(0, classes=CLASSES), prop)
    with pytest.raises(InvalidInput, match="needs a certificate with a set"):
        net.label_margins(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))
