"""The figures of section 6.1 on cases small enough to work by hand."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.metrics import (
    AffinityAccuracy,
    RejectionRate,
    TopKAccuracy,
    VerifiedRobustAccuracy,
    clean_accuracy,
    clean_accuracy_name,
)
from relaxcert.spec import Affinity, AffinitySets, Local, Property, RelaxedTopK, Targeted, TopK
from relaxcert.training.evaluation import evaluate, figures_of
from tests.networks import every_kind, linear, randn, random_backbone

NAN, INF = math.nan, math.inf


def identity(prop: Property, classes: int = 4) -> GloRoNet:
    """f(x) = x: in l2, classes a, b are sqrt(2) eps apart where they may meet."""
    return GloRoNet(torch.nn.Sequential(linear(torch.eye(classes))), prop).eval()


# Gaps of 1 are certain, gaps of 0.1 are lost: sqrt(2) * 0.1 = 0.14.
EPS = "0.1"
POINTS = torch.tensor(
    [
        [3.0, 2.0, 1.0, 0.0],  # every k is certain
        [3.0, 2.9, 1.0, 0.0],  # {0, 1} only, and {0, 1, 2}
        [3.0, 2.9, 2.8, 0.0],  # {0, 1, 2} only
        [3.0, 2.9, 2.8, 2.7],  # nothing
        [3.0, 3.0, 1.0, 0.0],  # a tie: {0, 1} and {0, 1, 2}
        [NAN, 2.0, 1.0, 0.0],  # nothing
    ],
    dtype=torch.float64,
)


def vra(prop: Property, labels: list[int], rows: Tensor = POINTS) -> float:
    metric = VerifiedRobustAccuracy()
    metric.update(identity(prop).certify(rows), torch.tensor(labels))
    return float(metric.compute()) * len(rows)


def test_vra_of_local_counts_certified_and_right():
    assert vra(Local(eps=EPS), [0, 0, 0, 0, 0, 0]) == pytest.approx(1)  # row 0
    assert vra(Local(eps=EPS), [1, 0, 0, 0, 0, 0]) == pytest.approx(0)


def test_vra_of_rtk_uses_the_loosest_set():
    assert vra(RelaxedTopK(3, eps=EPS), [0, 0, 0, 0, 0, 0]) == pytest.approx(4)
    # Label 2 is in the loosest set {0, 1, 2} of rows 0, 1, 2, 4 although row 0 is certain for 0.
    assert vra(RelaxedTopK(3, eps=EPS), [2] * 6) == pytest.approx(4)
    assert vra(RelaxedTopK(3, eps=EPS), [3] * 6) == pytest.approx(0)
    assert vra(RelaxedTopK(2, eps=EPS), [1] * 6) == pytest.approx(3)  # rows 0, 1, 4
    assert vra(RelaxedTopK(2, eps=EPS), [2] * 6) == pytest.approx(0)


def test_vra_of_affinity_uses_the_loosest_set_that_lies_in_an_affinity_set():
    pairs = Affinity(AffinitySets([[0, 1], [2, 3]], 4), eps=EPS)
    assert vra(pairs, [0] * 6) == pytest.approx(3)  # rows 0, 1, 4
    assert vra(pairs, [1] * 6) == pytest.approx(3)
    assert vra(pairs, [2] * 6) == pytest.approx(0)
    alone = Affinity(AffinitySets([[0], [1], [2, 3]], 4), eps=EPS)
    assert vra(alone, [0] * 6) == pytest.approx(1)


def test_vra_of_top_k_wants_that_k():
    assert vra(TopK(2, eps=EPS), [1] * 6) == pytest.approx(3)
    assert vra(TopK(1, eps=EPS), [0] * 6) == pytest.approx(1)


def test_vra_of_targeted_accepts_the_allowed_classes():
    prop = Targeted.neighbours([0, 1, 2, 3], eps=EPS)
    # In rows 2 and 3 class 2 is 0.2 below class 0, which is more than sqrt(2) * 0.1. Row 4 is tied.
    assert vra(prop, [0] * 6) == pytest.approx(4)
    assert vra(prop, [1] * 6) == pytest.approx(4)
    assert vra(prop, [2] * 6) == pytest.approx(0)


def test_vra_of_a_composition_follows_its_connective():
    local, rtk = Local(eps=EPS), RelaxedTopK(3, eps=EPS)
    assert vra(local & rtk, [0] * 6) == pytest.approx(1)
    assert vra(local | rtk, [0] * 6) == pytest.approx(4)
    assert vra(local & rtk, [1] * 6) == pytest.approx(0)
    assert vra(local | rtk, [1] * 6) == pytest.approx(4)


def test_rejection_rate_counts_what_is_not_certified():
    for prop, rejected in [
        (Local(eps=EPS), 5),
        (RelaxedTopK(2, eps=EPS), 3),
        (RelaxedTopK(3, eps=EPS), 2),
        (Affinity(AffinitySets([[0, 1], [2, 3]], 4), eps=EPS), 3),
    ]:
        metric = RejectionRate()
        metric.update(identity(prop).certify(POINTS))
        assert float(metric.compute()) * 6 == pytest.approx(rejected)


def share(metric: TopKAccuracy | AffinityAccuracy, row: list[float], label: int) -> float:
    metric.reset()
    metric.update(torch.tensor([row]), torch.tensor([label]))
    return float(metric.compute())


@pytest.mark.parametrize(
    ("k", "row", "label", "right"),
    [
        (1, [3.0, 2.0, 1.0], 0, 1),
        (1, [3.0, 2.0, 1.0], 1, 0),
        (2, [3.0, 2.0, 1.0], 1, 1),
        (2, [3.0, 2.0, 1.0], 2, 0),
        (1, [3.0, 3.0, 1.0], 0, 0),  # a tie at the boundary counts against the label
        (1, [3.0, 3.0, 1.0], 1, 0),
        (2, [3.0, 3.0, 1.0], 1, 1),  # a tie inside does not
        (2, [3.0, 1.0, 1.0], 0, 1),
        (2, [3.0, 1.0, 1.0], 1, 0),
        (2, [1.0, 1.0, 1.0], 1, 0),
        (1, [3.0, NAN, 1.0], 0, 0),
        (2, [3.0, 2.0, NAN], 2, 0),
        (1, [INF, 2.0, 1.0], 0, 0),
        (2, [3.0, 2.0, -INF], 0, 0),
        (1, [0.0, -0.0, -1.0], 0, 0),  # equal numbers
    ],
)
def test_top_k_accuracy(k, row, label, right):
    assert share(TopKAccuracy(k), row, label) == right


@pytest.mark.parametrize(
    ("row", "label", "right"),
    [
        ([4.0, 3.0, 2.0, 1.0], 0, 1),
        ([4.0, 3.0, 2.0, 1.0], 1, 1),  # {0, 1}
        ([4.0, 3.0, 2.0, 1.0], 2, 0),  # {0, 1, 2} shares no set
        ([3.0, 4.0, 2.0, 1.0], 2, 0),
        ([2.0, 4.0, 3.0, 1.0], 2, 1),  # {1, 2}
        ([1.0, 2.0, 3.0, 4.0], 3, 1),
        ([1.0, 2.0, 3.0, 4.0], 2, 0),  # {2, 3}
        ([4.0, 4.0, 2.0, 1.0], 0, 1),  # tied inside {0, 1}
        ([4.0, 1.0, 4.0, 0.0], 0, 0),  # tied with 2, and {0, 2} shares no set
        ([NAN, 4.0, 2.0, 1.0], 1, 0),
    ],
)
def test_affinity_accuracy(row, label, right):
    sets = AffinitySets([[0, 1], [1, 2], [3]], 4)
    assert share(AffinityAccuracy(sets), row, label) == right


def test_a_class_in_no_set_is_never_affinity_correct():
    assert share(AffinityAccuracy(AffinitySets([[0, 1]], 3)), [0.0, 1.0, 5.0], 2) == 0


def test_the_clean_accuracy_of_each_property_is_the_papers():
    sets = AffinitySets([[0, 1], [2], [3]], 4)
    for prop, kind, name in [
        (Local(eps=1), TopKAccuracy, "top-1 accuracy"),
        (TopK(2, eps=1), TopKAccuracy, "top-2 accuracy"),
        (RelaxedTopK(3, eps=1), TopKAccuracy, "top-3 accuracy"),
        (Affinity(sets, eps=1), AffinityAccuracy, "affinity accuracy"),
        (Targeted.neighbours([0, 1, 2, 3], eps=1), TopKAccuracy, "top-1 accuracy"),
        (Local(eps=1) & RelaxedTopK(3, eps=1), TopKAccuracy, "top-1 accuracy"),
    ]:
        metric = clean_accuracy(prop)
        assert type(metric) is kind
        assert clean_accuracy_name(prop) == name
        if isinstance(metric, TopKAccuracy):
            assert f"top-{metric.k} accuracy" == name


def points_and_labels(seed: int, points: int = 20) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return randn(seed, points, 4), torch.randint(4, (points,), generator=generator)


PROPERTIES = every_kind(4, eps=0.05)


@given(st.integers(0, 10**6), st.sampled_from(PROPERTIES), st.integers(1, 19))
def test_batches_add_up_to_the_whole_and_so_do_ranks(seed, prop, cut):
    net = GloRoNet(random_backbone(seed % 5), prop).eval()
    inputs, labels = points_and_labels(seed)
    whole = net.certify(inputs)
    halves = [(net.certify(inputs[:cut]), labels[:cut]), (net.certify(inputs[cut:]), labels[cut:])]

    def fresh() -> list[torch.nn.Module]:
        return [VerifiedRobustAccuracy(), RejectionRate(), clean_accuracy(prop), TopKAccuracy(2)]

    def update(metrics: list, certificates: Certificates, target: Tensor) -> None:
        for metric in metrics[:2]:
            metric.update(certificates, target)
        for metric in metrics[2:]:
            metric.update(certificates.logits, target)

    at_once, in_turn, first, second = fresh(), fresh(), fresh(), fresh()
    update(at_once, whole, labels)
    for half, rank in zip(halves, (first, second), strict=True):
        update(in_turn, *half)
        update(rank, *half)
    for one, other, left, right in zip(at_once, in_turn, first, second, strict=True):
        left.merge_state(right)
        assert float(one.compute()) == float(other.compute()) == float(left.compute())
        assert int(left.points) == 20


@given(st.integers(0, 10**6), st.sampled_from(PROPERTIES))
def test_vra_is_at_most_what_is_not_rejected_and_at_most_set_accuracy(seed, prop):
    net = GloRoNet(random_backbone(seed % 5), prop).eval()
    inputs, labels = points_and_labels(seed)
    figures, certificates = evaluate(net, inputs, labels, batch_size=7)
    assert figures.vra <= 1 - figures.rejection_rate
    if not certificates.parts and not isinstance(prop, Targeted):
        # A certified set is a prefix: the label in it is in the top K, or shares a set.
        assert figures.vra <= figures.clean_accuracy
    assert figures == figures_of(certificates, labels)
    assert figures.points == 20


def test_figures_on_hand_worked_points():
    figures, _ = evaluate(identity(RelaxedTopK(2, eps=EPS)), POINTS[:5], torch.tensor([1] * 5))
    # VRA: rows 0, 1, 4; rejected: rows 2, 3; label 1 is second, or tied first, everywhere.
    assert figures.as_dict() == pytest.approx(
        {
            "points": 5,
            "vra": 0.6,
            "rejection_rate": 0.4,
            "clean_accuracy": 1.0,
            "top1_accuracy": 0.0,
        }
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.zeros(3).long(), r"labels has shape \(3,\)"),
        (torch.zeros(6, 1).long(), r"labels has shape \(6, 1\)"),
        (torch.zeros(6), "dtype torch.float32"),
        (torch.tensor([0, 0, 4, 0, 0, 0]), r"labels\[2\]=4 is out of range: .* from 0 to 3"),
        (torch.tensor([0, 0, 0, 0, 0, -1]), r"labels\[5\]=-1 is out of range"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, said):
    certificates = identity(Local(eps=EPS)).certify(POINTS)
    sets = AffinitySets([[0, 1], [2], [3]], 4)
    for metric, given_first in [
        (VerifiedRobustAccuracy(), certificates),
        (TopKAccuracy(2), POINTS),
        (AffinityAccuracy(sets), POINTS),
    ]:
        with pytest.raises(InvalidInput, match=said):
            metric.update(given_first, labels)
        assert int(metric.points) == 0
    with pytest.raises(InvalidInput):
        figures_of(certificates, labels)


def test_no_points_are_refused_by_evaluate_and_nan_for_a_metric():
    with pytest.raises(InvalidInput, match="inputs has 0 points"):
        evaluate(identity(Local(eps=EPS)), POINTS[:0], torch.zeros(0).long())
    with pytest.raises(InvalidInput, match="labels 3"):
        evaluate(identity(Local(eps=EPS)), POINTS, torch.zeros(3).long())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert math.isnan(float(TopKAccuracy(1).compute()))


def test_labels_of_32_bits_count_like_those_of_64():
    certificates = identity(RelaxedTopK(3, eps=EPS)).certify(POINTS)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    assert figures_of(certificates, labels) == figures_of(certificates, labels.int())
