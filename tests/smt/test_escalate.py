"""Escalation certifies more, never less, and never wrongly."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.smt import crosscheck, exact_network, judge
from relaxcert.spec import AffinitySets, Local, RelaxedTopK, Targeted, TopK
from relaxcert.spec.verdict import Answer
from tests.networks import random_backbone
from tests.smt.networks import LINE, regions

CASES = {
    "uniform": RelaxedTopK(2, eps=0.05),
    "pointwise": RelaxedTopK(2, eps=0.2, quantifier="pointwise"),
    "targeted": Targeted.within(AffinitySets([[0, 1], [2, 3]], 4), eps=0.1, norm="linf"),
    "composed": TopK(2, eps=0.05) | Local(eps=0.1),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_added_is_true_and_marked(name):
    prop = CASES[name]
    net = GloRoNet(random_backbone(5, 2, (8, 8), 4), prop)
    points = regions(2, 4, 40, 3)[0]
    head = net.certify(points)
    more = net.certify(points, escalate="z3", budget="20s")
    assert bool((more.certified | ~head.certified).all())
    added = more.certified & ~head.certified
    assert added.any()
    assert torch.equal(more.escalated, added)
    network = exact_network(net.backbone, (2,))
    for index, point in enumerate(points.double().tolist()):
        exact = tuple(map(Fraction, point))
        verdict = judge(network, exact, prop).verdict.answer
        assert bool(more.certified[index]) == (verdict is Answer.CERTIFIED)
        expected = "head" if head.certified[index] else ("z3" if added[index] else "")
        assert more.engine[index] == expected
        k = int(more.k[index])
        assert more.sets[index].sum() == k or name in ("targeted", "composed")
        if added[index] and k:
            strictest = int(more.strictest_k[index])
            for length in (k, strictest):
                top = TopK(length, eps=prop.ball.eps)
                assert judge(network, exact, top).verdict.answer is Answer.CERTIFIED
            assert more.radius[index] == pytest.approx(float(prop.ball.eps))
    records = list(more.records())
    assert [record["engine"] for record in records] == list(more.engine)
    assert "engine" not in next(iter(head.records()))


def test_rejected_points_that_fail_and_odd_points_stay_rejected():
    net = GloRoNet(LINE, Local(eps=1))
    points = torch.tensor([[0.0], [math.nan], [0.5], [9.0]])
    found = net.certify(points, escalate="z3")
    assert found.certified.tolist() == [False, False, False, True]


def test_the_time_is_bounded_for_all_points_together():
    net = GloRoNet(random_backbone(1, 12, (40, 40), 4), Local(eps=5))
    points = torch.zeros(50, 12)
    net.verify()
    started = time.monotonic()
    found = net.certify(points, escalate="z3", budget=0.5)
    # Building the exact network comes on top; fifty points of 0.5 s each would take 25 s.
    assert time.monotonic() - started < 15
    assert len(found) == 50


def test_the_points_survive_activations_that_work_in_place():
    """relu in place on the input would turn -2 into 0, a point at which the property fails."""
    inside = nn.Sequential(nn.ReLU(inplace=True), *LINE)
    points = torch.tensor([[-2.0], [4.0]], dtype=torch.float64)
    net, plain = (
        GloRoNet(part, TopK(1, eps="1/4", norm="linf"))
        for part in (inside, nn.Sequential(nn.ReLU(), *LINE))
    )
    found = net.certify(points.clone(), escalate="z3")
    assert torch.equal(found.certified, plain.certify(points, escalate="z3").certified)
    checked = crosscheck(net, points.clone())
    assert [r["answer"] for r in checked.records] == [
        r["answer"] for r in crosscheck(plain, points).records
    ]


def test_mistakes_are_explained():
    net = GloRoNet(LINE, Local(eps=1))
    points = torch.zeros(1, 1)
    with pytest.raises(InvalidInput, match="greater than 0"):
        net.certify(points, escalate="z3", budget=0)
    with pytest.raises(InvalidInput, match="solver='nobody' is unknown"):
        net.certify(points, escalate="nobody")
    with pytest.raises(InvalidInput, match="level R"):
        net.certify(points, escalate="z3", deployed="float64")
