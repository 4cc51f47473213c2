"""The figures of a comparison are those that one counts by hand; wrong inputs are named."""

from __future__ import annotations

import math

import pytest
import torch

from relaxcert.errors import InvalidInput
from relaxcert.heads import GloRoNet
from relaxcert.nn.networks import dense
from relaxcert.report.comparison import Share, compare, inside
from relaxcert.report.comparison_plots import overview, points_with_sets
from relaxcert.spec import AffinitySets, Local, RelaxedTopK
from tests.networks import randn

GROUPS = AffinitySets([[0, 1], [2, 3]], num_classes=4)


def logits_as_inputs(prop, seed: int = 0) -> GloRoNet:
    """The identity: an input is its logits, so what is certified can be seen."""
    net = GloRoNet(dense(4, [], 4), prop)
    with torch.no_grad():
        net.backbone[1].weight.copy_(torch.eye(4))
        net.backbone[1].bias.zero_()
    return net.eval()


# eps 0.1 and differences of unit rows: a lead of more than 0.1 * sqrt 2 is certified.
POINTS = torch.tensor(
    [
        [1.0, 0.0, 0.0, 0.0],  # both for class 0 alone
        [1.0, 0.95, 0.0, 0.0],  # Local rejects, RT3 certifies {0, 1}, a group
        [1.0, 0.0, 0.95, 0.0],  # Local rejects, RT3 certifies {0, 2}, no group
        [1.0, 0.95, 0.95, 0.95],  # both reject
        [0.0, 0.0, 1.0, 0.95],  # Local rejects, RT3 certifies {2, 3}
        [0.0, 1.0, 0.95, 0.9],  # Local rejects, RT3 certifies {1, 2, 3}, no group
    ]
)
LABELS = torch.tensor([0, 1, 0, 3, 0, 1])


@pytest.fixture(scope="module")
def pair():
    nets = logits_as_inputs(Local(eps=0.1)), logits_as_inputs(RelaxedTopK(3, eps=0.1))
    return tuple(net.certify(POINTS) for net in nets)


def test_each_share_is_the_one_counted_by_hand(pair):
    found = compare(*pair, LABELS, groups=GROUPS)
    local, relaxed = found.rejected
    assert local.certified == Share(4, 5)
    assert local.alone == Share(0, 5)
    assert local.counting == Share(3, 5)  # point 4 is labelled 0, outside {2, 3}
    assert relaxed.certified == Share(0, 1)
    grouped = found.grouped[1]
    assert grouped.strictest == Share(3, 5)
    # Point 0 is certified for its three highest classes only where these are told from the rest.
    assert grouped.loosest == Share(3, 5)
    assert grouped.rescued == Share(0, 2)
    assert found.strictest_sizes[1] == [1, 1, 3, 1]
    assert found.strictest_sizes[0] == [5, 1]
    classes = {line.name: line for line in found.classes}
    assert classes["0"].points == 3
    assert classes["0"].rejected == (Share(2, 3), Share(0, 3))
    assert classes["0"].recovered == (Share(2, 2), Share(0, 0))
    assert classes["2"].points == 0
    assert math.isnan(classes["2"].rejected[0].share)


def test_a_point_that_only_the_relaxed_network_certifies_for_one_class_is_counted():
    """The paper's 5 %: a top-1 guarantee of the relaxed network on points that Local rejects."""
    strict, loose = logits_as_inputs(Local(eps=0.2)), logits_as_inputs(RelaxedTopK(2, eps=0.1))
    points = torch.tensor([[1.0, 0.8, 0.0, 0.0]])
    found = compare(strict.certify(points), loose.certify(points), torch.tensor([0]))
    assert found.rejected[0].alone == Share(1, 1)
    assert found.grouped is None


def test_examples_are_taken_from_many_classes(pair):
    found = compare(*pair, LABELS, groups=GROUPS, examples=2)
    rejected, several, _ = found.examples.values()
    assert rejected == [2, 1]  # the first of class 0, then the first of class 1
    assert several == [2, 5]  # class 0, then class 1 where it is predicted
    all_of_them = compare(*pair, LABELS, groups=GROUPS).examples
    assert next(iter(all_of_them.values())) == [2, 1, 5]


def test_an_empty_set_lies_in_no_group_and_a_subset_does():
    sets = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0]]).bool()
    assert inside(sets, GROUPS).tolist() == [False, True, True, False]


def test_what_does_not_fit_is_named(pair):
    with pytest.raises(InvalidInput, match="for 2 labels"):
        compare(*pair, LABELS[:2])
    with pytest.raises(InvalidInput, match="groups are of 5 classes"):
        compare(*pair, LABELS, groups=AffinitySets([[0, 1]], num_classes=5))


@pytest.mark.parametrize("images", [True, False])
def test_pictures_are_drawn_of_images_and_of_other_points(pair, tmp_path, images):
    found = compare(*pair, LABELS, groups=GROUPS)
    assert overview(found, ("1st", "2nd"), tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    inputs = randn(1, 6, 3, 5, 5).abs() if images else POINTS
    drawn = points_with_sets(found, pair, inputs, LABELS, list("abcd"), tmp_path / "b.png")
    assert drawn.stat().st_size > 10_000
    none = compare(*pair, LABELS, examples=0)
    assert points_with_sets(none, pair, inputs, LABELS, list("abcd"), tmp_path / "c.png") is None
