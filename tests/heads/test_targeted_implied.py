"""Adjacent-pair affinity (the paper) implies targeted safety of one degree (DeepSafe).

With the same logits and the same bounds, whatever they are, as long as no two logits tie for best.
"""

from __future__ import annotations

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.head import compile_property
from relaxcert.heads.links import EstimatedLinks
from relaxcert.spec import load_property
from tests.networks import randn, random_backbone

AFFINITY = load_property("acasxu/adjacent-advisories")
TARGETED = load_property("acasxu/targeted-safe")
CLASSES = 5

numbers = st.one_of(st.floats(-2, 2), st.sampled_from([-1.0, 0.0, 0.5, 1.0]))
logits = st.lists(numbers, min_size=CLASSES, max_size=CLASSES)
# Any numbers at all, symmetric or not: the implication needs no metric.
bounds = st.lists(st.floats(0, 2), min_size=CLASSES**2, max_size=CLASSES**2)


def margins(row, pairs, reach=1.0):
    scores = torch.tensor([row], dtype=torch.float64)
    distances = torch.tensor(pairs, dtype=torch.float64).reshape(CLASSES, CLASSES)
    links = EstimatedLinks(scores, distances, reach)
    affinity = compile_property(AFFINITY, CLASSES)(scores, lambda ball: links)
    targeted = compile_property(TARGETED, CLASSES)(scores, lambda ball: links)
    return affinity, targeted


@given(logits, bounds)
def test_what_affinity_certifies_targeted_certifies(row, pairs):
    assume(sorted(row)[-1] > sorted(row)[-2])
    affinity, targeted = margins(row, pairs)
    assert bool(targeted.margin > 0) >= bool(affinity.margin > 0)
    # The set that is certified lies among the advisories that are allowed.
    assert not bool((affinity.sets & ~targeted.sets).any())


def test_the_converse_fails():
    """Both neighbours of clear of conflict may occur: allowed by the one, no pair of the other."""
    affinity, targeted = margins([1.0, 0.9, 0.9, -1.0, -1.0], [0.5] * CLASSES**2)
    assert float(targeted.margin) > 0 >= float(affinity.margin)


def test_a_tie_for_best_is_why_ties_are_excluded():
    """A pair that ties is a certified set, but there is no one advisory to be safe around."""
    affinity, targeted = margins([1.0, 1.0, 0.0, 0.0, 0.0], [0.5] * CLASSES**2)
    assert float(affinity.margin) > 0 >= float(targeted.margin)


@settings(max_examples=20)
@given(st.integers(0, 500))
def test_so_do_certificates_of_networks(seed):
    backbone = random_backbone(seed, features=5, classes=CLASSES)
    inputs = randn(seed, 64, 5)
    affinity = GloRoNet(backbone, AFFINITY).certify(inputs)
    targeted = GloRoNet(backbone, TARGETED).certify(inputs)
    assert bool((targeted.certified | ~affinity.certified).all())
    assert int(affinity.certified.sum()) <= int(targeted.certified.sum())
