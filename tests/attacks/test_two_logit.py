"""The property as two logits, and the check of what any attack on them brings."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from relaxcert.attacks import attack, confirm, two_logits
from relaxcert.attacks import scene as scenes
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.metrics import (
    AttackedRobustAccuracy,
    VerifiedRobustAccuracy,
    certified_and_correct,
)
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, Targeted, TopK
from tests.attacks.test_margin_pgd import check_exactly, exact, exact_forward
from tests.networks import NORMS, every_kind, linear, randn, random_backbone

norms = pytest.mark.parametrize("norm", NORMS)


def sampled(net: GloRoNet, inputs: torch.Tensor, norm: str, eps: float) -> list[torch.Tensor]:
    """A naive attack that knows nothing but two logits: the best of 64 random offsets."""
    order, found = ORDER[norm], []
    for module in two_logits(net, inputs):
        best, lowest = inputs.clone(), torch.full((len(inputs),), math.inf, dtype=inputs.dtype)
        for seed in range(64):
            offset = randn(seed, *inputs.shape)
            offset = offset.sign() if norm == "linf" else offset  # the corners of a box
            offset *= eps / torch.linalg.vector_norm(offset, order, dim=1, keepdim=True)
            with torch.no_grad():
                logits = module(inputs + offset)
            assert logits.shape == (len(inputs), 2)
            assert bool((logits[:, 1] == 0).all())
            better = logits[:, 0] < lowest
            lowest = torch.where(better, logits[:, 0], lowest)
            best = torch.where(better[:, None], inputs + offset, best)
        found.append(best)
    return found


@norms
@pytest.mark.parametrize("place", range(11))
def test_any_attack_on_two_logits_attacks_the_property(norm, place):
    """Random sampling knows nothing of properties, and what it finds holds in exact arithmetic."""
    eps = {"l2": 1.5, "linf": 1.0, "l1": 3.0}[norm]
    net = GloRoNet(random_backbone(place, hidden=(6,)), every_kind(4, eps=eps, norm=norm)[place])
    inputs = 0.7 * randn(3, 12, 4)
    result = confirm(net, inputs, sampled(net, inputs, norm, eps))
    assert check_exactly(net, inputs, result) >= 1
    assert not bool((result.falsified & net.certify(inputs).certified).any())


def test_class_one_wins_where_the_target_is_broken():
    """f = (x, 0, -9) at x = 1: Local breaks where x' < 0."""
    net = GloRoNet(nn.Sequential(linear([[1.0], [0.0], [0.0]], [0.0, 0.0, -9.0])), Local(eps=2))
    (module,) = two_logits(net, torch.ones(3, 1))
    found = module(torch.tensor([[0.5], [0.0], [-0.5]], dtype=torch.float64))
    assert found.tolist() == [[0.5, 0.0], [0.0, 0.0], [-0.5, 0.0]]
    assert found.argmax(1).tolist() == [0, 0, 1]
    assert module(torch.ones(3, 1)).dtype == torch.float32


def test_gradients_reach_the_input():
    net = GloRoNet(random_backbone(1), RelaxedTopK(2, eps=0.5))
    inputs = randn(0, 5, 4)
    for module in two_logits(net, inputs):
        point = inputs.clone().requires_grad_()
        module(point)[:, 0].sum().backward()
        assert bool((point.grad.norm(dim=1) > 0).all())


def test_a_target_that_does_not_apply_has_nothing_to_break():
    sets = AffinitySets([[0], [1, 2]], 3)
    net = GloRoNet(nn.Sequential(linear(torch.eye(3))), Affinity(sets, eps=0.1))
    # Top class 0: only k = 1 stays inside a set. Top classes 2, 1: k = 1 and k = 2 do.
    points = torch.tensor([[0.9, 0.5, 0.0], [0.0, 0.5, 0.9]], dtype=torch.float64)
    first, second = two_logits(net, points)
    assert first.applies.tolist() == [True, True]
    assert second.applies.tolist() == [False, True]
    assert second(points)[0].tolist() == [-1.0, 0.0]


def test_another_number_of_points_is_refused():
    (module,) = two_logits(GloRoNet(random_backbone(1), Local(eps=0.5)), randn(0, 5, 4))
    with pytest.raises(InvalidInput, match="attack the whole batch at once"):
        module(randn(0, 4, 4))


def flat_net(eps: float) -> GloRoNet:
    return GloRoNet(
        nn.Sequential(linear([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [0.0, 0.0, -9.0])),
        Local(eps=eps),
    )


def test_candidates_are_not_believed():
    """x = (1, 0): Local with eps 1.5 is broken where x'_0 < 0, as far as -0.5."""
    net, points = flat_net(1.5), torch.tensor([[1.0, 0.0]] * 5, dtype=torch.float64)
    candidates = torch.tensor(
        [[-0.25, 0.0], [0.5, 0.0], [-9.0, 0.0], [math.nan, 0.0], [1.0, 1.5]], dtype=torch.float64
    )
    result = confirm(net, points, [candidates])
    assert result.falsified.tolist() == [True, False, True, False, False]
    # The third was drawn in to the ball, where it is a violation of its own right.
    witness = result.witnesses[2, 0]
    assert float((witness - points[2]).norm()) <= 1.5
    assert check_exactly(net, points, result) == 2
    # In a smaller ball nothing is left of the same candidates.
    assert not bool(confirm(flat_net(0.9), points, [candidates]).falsified.any())


def test_a_check_that_believes_would_be_noticed(monkeypatch):
    everywhere = lambda self, target, witness: torch.ones(len(witness), dtype=torch.bool)  # noqa: E731
    monkeypatch.setattr(scenes.Scene, "broken", everywhere)
    with pytest.raises(AssertionError):
        test_candidates_are_not_believed()


@pytest.mark.parametrize(
    "candidates", [[], [torch.zeros(2, 4)], [torch.zeros(5, 4)] * 2], ids=["none", "few", "many"]
)
def test_candidates_that_do_not_fit_are_refused(candidates):
    net = GloRoNet(random_backbone(1), Local(eps=0.5))
    with pytest.raises(InvalidInput, match="one x' a point for each target"):
        confirm(net, randn(0, 5, 4), candidates)


@norms
@pytest.mark.parametrize("place", range(11))
def test_the_upper_bound_is_above_the_verified_accuracy(norm, place):
    """Point by point: what a certificate counts, no attack may strike out."""
    eps = {"l2": 0.3, "linf": 0.15, "l1": 0.5}[norm]
    net = GloRoNet(random_backbone(place, hidden=(6,)), every_kind(4, eps=eps, norm=norm)[place])
    inputs = randn(9, 40, 4)
    certificates = net.certify(inputs)
    result = attack(net, inputs, steps=8, restarts=1)
    for label in range(4):
        labels = torch.full((40,), label)
        counted = certified_and_correct(certificates, labels)
        assert not bool((counted & ~result.may_count(labels)).any())
    labels = certificates.prediction
    upper, lower = AttackedRobustAccuracy(), VerifiedRobustAccuracy()
    upper.update(result.may_count(labels))
    lower.update(certificates, labels)
    assert float(lower.compute()) <= float(upper.compute()) <= 1


def test_what_may_count_is_what_a_better_attack_could_leave():
    """f = (0, -1 + a, -1.5 + b) at 0: k = 1 breaks beyond eps 1, k = 2 beyond 0.5 / sqrt 2."""
    backbone = nn.Sequential(
        linear([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0, -1.0, -1.5], torch.float64)
    )
    points, labels = torch.zeros(3, 2, dtype=torch.float64), torch.tensor([0, 1, 2])

    def left(prop) -> list[bool]:
        return attack(GloRoNet(backbone, prop), points).may_count(labels).tolist()

    small, middle, large = 0.3, 0.5, 1.1
    assert left(RelaxedTopK(2, eps=small)) == [True, True, False]
    assert left(RelaxedTopK(2, eps=middle)) == [True, False, False]
    assert left(RelaxedTopK(2, eps=large)) == [False, False, False]
    assert left(RelaxedTopK(2, eps=middle, quantifier="pointwise")) == [True, True, False]
    assert left(TopK(2, eps=middle)) == [False, False, False]
    assert left(TopK(2, eps=small) & Local(eps=middle)) == [True, False, False]
    assert left(TopK(2, eps=small) | Local(eps=middle)) == [True, True, False]
    assert left(TopK(2, eps=middle) | Local(eps=middle)) == [True, False, False]
    targeted = Targeted([[0, 1], [1, 0], [2]], eps=large)
    assert left(targeted) == [True, True, False]


def test_points_whose_sets_are_uncertain_may_count():
    net = GloRoNet(nn.Sequential(linear(torch.eye(3))), Local(eps=1))
    points = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.2, 0.0]], dtype=torch.float64)
    result = attack(net, points)
    assert result.may_count(torch.tensor([2, 0])).tolist() == [True, False]
    assert exact_forward(net.backbone, exact(points[0]))[0] == exact(points[0])[0]
