"""Figures by class add up, and a constant answer scores what a constant network scores."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.report.by_class import constant_answers, figures_by_class
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, Targeted, TopK
from relaxcert.training.evaluation import evaluate
from tests.networks import linear, randn, random_backbone

CLASSES = 5
ORDER = [3, 1, 0, 2, 4]
KINDS = [
    Local(eps=0.02),
    TopK(2, eps=0.02),
    RelaxedTopK(3, eps=0.02),
    Affinity(AffinitySets.adjacent(ORDER), eps=0.02),
    Targeted.neighbours(ORDER, eps=0.02),
]


@given(st.sampled_from(KINDS), st.integers(0, 100))
def test_the_classes_add_up_to_the_whole(prop, seed):
    net = GloRoNet(random_backbone(seed, classes=CLASSES), prop)
    inputs = randn(seed, 60, 4)
    labels = torch.randint(0, 4, (60,), generator=torch.Generator().manual_seed(seed))
    figures, certificates = evaluate(net, inputs, labels)
    rows = figures_by_class(certificates, labels)
    assert [row.points for row in rows] == labels.bincount(minlength=CLASSES).tolist()
    for field in ("vra", "rejection_rate", "clean_accuracy", "top1_accuracy"):
        total = sum(row.points * getattr(row, field) for row in rows if row.points)
        assert total / 60 == pytest.approx(getattr(figures, field))
    assert rows[4].points == 0
    assert math.isnan(rows[4].vra)
    assert [row.name for row in figures_by_class(certificates, labels, "abcde")] == list("abcde")


@given(st.sampled_from(KINDS), st.lists(st.integers(0, 4), min_size=1, max_size=30), st.data())
def test_no_constant_network_scores_more(prop, labels, data):
    target = torch.tensor(labels)
    order = data.draw(st.permutations(range(CLASSES)))
    bias = torch.empty(CLASSES, dtype=torch.float64)
    bias[order] = torch.arange(CLASSES, dtype=torch.float64)
    net = GloRoNet(linear(torch.zeros(CLASSES, 2), bias.tolist()), prop)
    figures, _ = evaluate(net, torch.zeros(len(labels), 2, dtype=torch.float64), target)
    assert figures.vra <= constant_answers(target, prop, CLASSES)["one set"] + 1e-12


@pytest.mark.parametrize(
    ("prop", "share"),
    [(KINDS[0], 0.5), (KINDS[1], 0.8), (KINDS[2], 1.0), (KINDS[3], 0.7), (KINDS[4], 0.8)],
)
def test_the_best_constant_answers(prop, share):
    labels = torch.tensor([0] * 5 + [1] * 2 + [4] * 3)
    found = constant_answers(labels, prop, CLASSES)
    assert found == {"one class": 0.5, "one set": pytest.approx(share)}
