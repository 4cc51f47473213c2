"""One certification gives the VRA at every eps: compared with certifying again at that eps."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.metrics import certified_and_correct, label_radius
from relaxcert.spec import Local, RelaxedTopK, Targeted, TopK
from tests.networks import every_kind, linear, randn, random_backbone

CLASSES, POINTS = 4, 40
KINDS = every_kind(CLASSES, "1/20")
COMPOSED = [
    Local(eps="1/20") | RelaxedTopK(2, eps="1/20"),
    RelaxedTopK(2, eps="1/20") & Targeted([[0, 1], [0, 1, 2], [1, 2], [3]], eps="1/20"),
    Local(eps="1/20") & TopK(2, eps="1/10"),
]


def labels_of(seed: int) -> torch.Tensor:
    return torch.randint(0, CLASSES, (POINTS,), generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40)
@given(
    st.sampled_from([*KINDS, *COMPOSED]), st.integers(0, 30), st.floats(1e-3, 0.6), st.booleans()
)
def test_it_is_the_vra_at_any_eps(prop, seed, eps, fast):
    backbone, inputs, labels = (
        random_backbone(seed),
        randn(seed, POINTS, 4).float(),
        labels_of(seed),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net, again = GloRoNet(backbone, prop), GloRoNet(backbone, prop.with_eps(eps))
    found = net.certify(inputs, mode="float32-first" if fast else "float64")
    radius = label_radius(found, labels)
    counts = certified_and_correct(again.certify(inputs), labels)
    # float32 lowers radii by what it rounds; the last bits of two proofs differ.
    unsure = (radius - eps).abs() <= eps * (1e-3 if fast else 1e-12)
    assert bool(((radius >= eps) == counts)[~unsure].all())
    if len(set(prop.balls)) == 1:
        own = certified_and_correct(found, labels)
        assert bool((radius[own] >= float(prop.balls[0].eps) * (1 - 1e-15)).all())


def test_by_hand():
    """f(x) = x in l2: classes a, b meet where half their gap times sqrt(2) is walked."""
    net = GloRoNet(torch.nn.Sequential(linear(torch.eye(4))), RelaxedTopK(3, eps="0.1"))
    rows = torch.tensor([[3.0, 2.0, 1.5, 0.0]] * 4 + [[3.0, 3.0, 1.0, 0.0]], dtype=torch.float64)
    radius = label_radius(net.certify(rows), torch.tensor([0, 1, 2, 3, 1]))
    steps = [1.5, 1.5, 1.5, 0.0, 2.0]  # label 0: F^3 is the most stable that holds it
    assert radius.tolist() == pytest.approx([step / math.sqrt(2) for step in steps])


def test_points_that_are_not_finite_and_wrong_labels():
    net = GloRoNet(torch.nn.Sequential(linear(torch.eye(4))), Local(eps="0.1"))
    found = net.certify(torch.tensor([[math.nan, 0.0, 0.0, 1.0]], dtype=torch.float64))
    assert label_radius(found, torch.tensor([3])).tolist() == [0.0]
    with pytest.raises(InvalidInput, match="out of range"):
        label_radius(found, torch.tensor([4]))


def test_different_norms_have_no_radius():
    prop = Local(eps="0.1") & Local(eps="0.1", norm="linf")
    found = GloRoNet(random_backbone(0), prop).certify(randn(0, POINTS, 4))
    assert bool(label_radius(found, labels_of(0)).isnan().all())


@pytest.mark.parametrize("prop", [RelaxedTopK(2, eps="0.05"), Local(eps="0.05")])
def test_at_level_d_it_ends_at_eps(prop):
    found = GloRoNet(random_backbone(1), prop).certify(
        randn(1, POINTS, 4).float(), deployed="float32"
    )
    radius = label_radius(found, found.prediction)
    assert float(radius.max()) <= 0.05
    assert bool((radius > 0.049).any())


def test_a_radius_of_a_wrong_prefix_would_be_found():
    """Seeded mistake: the property's own radius counts points whose label is not in the set."""
    net = GloRoNet(random_backbone(3), RelaxedTopK(3, eps="1/20"))
    inputs, labels = randn(3, POINTS, 4), labels_of(3)
    found = net.certify(inputs)
    counts = certified_and_correct(net.certify(inputs), labels)
    assert bool(((found.radius >= 0.05) != counts).any())
