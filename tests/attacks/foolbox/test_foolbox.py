"""Attacks of the foolbox library on properties; skipped where the extra is not installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from relaxcert.attacks import attack, foolbox_attack
from relaxcert.attacks import foolbox_attack as module
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.spec import Local
from tests.attacks.test_margin_pgd import check_exactly, flip_of
from tests.networks import NORMS, every_kind, linear, randn, random_backbone

if find_spec("foolbox") is None:
    pytest.skip("foolbox is not installed (extra attacks)", allow_module_level=True)

norms = pytest.mark.parametrize("norm", NORMS)


@norms
@pytest.mark.parametrize("place", [2, 4, 6, 8, 10])
def test_pgd_of_foolbox_breaks_properties(norm, place):
    eps = {"l2": 1.5, "linf": 1.0, "l1": 3.0}[norm]
    net = GloRoNet(random_backbone(place, hidden=(6,)), every_kind(4, eps=eps, norm=norm)[place])
    inputs = 0.7 * randn(3, 12, 4)
    result = foolbox_attack(net, inputs)
    assert check_exactly(net, inputs, result) >= 1
    assert not bool((result.falsified & net.certify(inputs).certified).any())


@norms
def test_a_flip_is_found_just_beyond_its_radius_and_not_within(norm):
    backbone = nn.Sequential(linear([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]], [0.0, 0.0, -100.0]))
    point = torch.ones(1, 2, dtype=torch.float64)
    # Foolbox's steps are coarse, and those of l1 spread over several features.
    factor = 2.0 if norm == "l1" else 1.1
    beyond = GloRoNet(backbone, Local(eps=flip_of(norm) * factor, norm=norm))
    within = GloRoNet(backbone, Local(eps=flip_of(norm) * 0.999999, norm=norm))
    assert foolbox_attack(beyond, point).falsified.tolist() == [True]
    assert foolbox_attack(within, point).falsified.tolist() == [False]


def test_another_attack_may_be_chosen():
    import foolbox

    asked = []

    def choose(norm):
        asked.append(norm)
        return foolbox.attacks.L2CarliniWagnerAttack(steps=60)

    net = GloRoNet(random_backbone(2, hidden=(6,)), Local(eps=1.5))
    inputs = 0.7 * randn(3, 6, 4)
    found = foolbox_attack(net, inputs, choose)
    assert asked == ["l2"]
    assert check_exactly(net, inputs, found) >= 1


def test_both_attacks_find_nearly_the_same():
    net = GloRoNet(random_backbone(5, hidden=(8,)), Local(eps=0.8))
    inputs = randn(4, 30, 4)
    own, other = attack(net, inputs), foolbox_attack(net, inputs)
    assert int(own.falsified.sum()) >= int(other.falsified.sum())
    assert int(other.falsified.sum()) >= 10


def test_the_same_seed_finds_the_same_and_leaves_the_random_state():
    net, inputs = GloRoNet(random_backbone(5), Local(eps=0.5)), randn(4, 6, 4)
    before = torch.get_rng_state()
    first, second = (foolbox_attack(net, inputs, seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.witnesses, second.witnesses)
    assert not torch.equal(first.witnesses, foolbox_attack(net, inputs, seed=4).witnesses)


def test_a_missing_library_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "foolbox", None)
    source = sys.modules[module.__module__]
    with pytest.raises(source.MissingFoolbox, match=r"pip install relaxcert\[attacks\]"):
        foolbox_attack(GloRoNet(random_backbone(1), Local(eps=1)), randn(0, 2, 4))
