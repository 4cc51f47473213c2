"""The attack against the exact judge: it finds nearly all that exists, and nothing else."""

from __future__ import annotations

from fractions import Fraction

import pytest
from torch import nn

from relaxcert.attacks import attack
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.nn import MinMax
from relaxcert.smt import exact_network, judge
from relaxcert.spec.verdict import Answer
from tests.networks import NORMS, every_kind, randn, random_backbone


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", [MinMax, nn.ReLU])
def test_the_attack_finds_nine_in_ten_of_what_exists(norm, activation):
    """Whether the property fails is known exactly, so both kinds of error can be counted."""
    backbone = random_backbone(5, 3, (8,), 4, activation=activation)
    network, points = exact_network(backbone, (3,)), randn(2, 16, 3)
    eps = {"l2": Fraction(2, 3), "linf": Fraction(1, 2), "l1": Fraction(3, 4)}[norm]
    exists = found = 0
    for place in (0, 2, 4, 7, 8, 10):
        prop = every_kind(4, eps=eps, norm=norm)[place]
        falsified = attack(GloRoNet(backbone, prop), points).falsified.tolist()
        for row, broken in zip(points.tolist(), falsified, strict=True):
            answer = judge(network, tuple(map(Fraction, row)), prop, budget=20).verdict.answer
            assert answer is not Answer.UNKNOWN
            assert not (broken and answer is Answer.CERTIFIED)
            exists += answer is Answer.FALSIFIED
            found += broken
    assert exists >= 8
    assert found >= 0.9 * exists
