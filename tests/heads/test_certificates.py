"""What certify returns: verdicts, k, sets, radii, parts, records."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from torch import nn

from relaxcert.errors import InvalidInput
from relaxcert.heads import GloRoNet, concatenate
from relaxcert.lipschitz import fingerprint
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, Targeted, TopK, digest
from relaxcert.spec.verdict import Answer
from tests.networks import NORMS, every_kind, linear, randn, random_backbone


def identity(prop) -> GloRoNet:
    return GloRoNet(nn.Sequential(linear(torch.eye(4))), prop)


LADDER = torch.tensor(
    [[10.0, 9.0, 5.0, 4.9], [10.0, 9.9, 9.8, 9.7], [10.0, 5.0, 4.9, 1.0]], dtype=torch.float64
)


def test_loosest_and_strictest_k_and_their_sets():
    cert = identity(RelaxedTopK(3, eps=0.5)).certify(LADDER)
    assert cert.k.tolist() == [2, 0, 3]
    assert cert.strictest_k.tolist() == [1, 0, 1]
    assert cert.sets.int().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]]
    assert cert.strictest_sets.int().tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert cert.prediction.tolist() == [0, 0, 0]
    assert cert.certified.tolist() == [True, False, True]
    assert cert.level == "R"


def test_margins_are_the_equation_rounded_down():
    cert = identity(RelaxedTopK(3, eps=0.5)).certify(LADDER)
    for found, row in zip(cert.margin.tolist(), LADDER.tolist(), strict=True):
        gap = max(Fraction(a) - Fraction(b) for a, b in pairwise(row))
        # found <= gap - sqrt(2) / 2, without a rounded root
        assert (gap - Fraction(found)) ** 2 >= Fraction(1, 2)
        assert found == pytest.approx(float(gap) - 0.5**0.5, abs=1e-12)


def test_a_pointwise_only_certificate_reports_no_set():
    """Each of F^1, F^2 can change, not both at once: 0 over 2 and 1 over 2 are proved apart."""
    net = identity(RelaxedTopK(2, eps=0.5, quantifier="pointwise"))
    found = [
        (point, cert)
        for point in ([[3.0, 2.5, 2.0, 0.0]], [[3.0, 2.4, 1.8, 1.0]], [[3.0, 2.3, 2.2, 2.1]])
        for cert in [net.certify(torch.tensor(point))]
    ]
    uniform = identity(RelaxedTopK(2, eps=0.5))
    only = [
        cert
        for point, cert in found
        if bool(cert.certified) and not bool(uniform.certify(torch.tensor(point)).certified)
    ]
    assert only
    for cert in only:
        assert (cert.k.item(), cert.strictest_k.item()) == (0, 0)
        assert not bool(cert.sets.any())


def test_targeted_certificates_report_the_allowed_classes_and_no_k():
    prop = Targeted([[0, 1], [0, 1], [2, 3], [2, 3]], eps=0.5)
    cert = identity(prop).certify(LADDER)
    assert cert.k.tolist() == [0, 0, 0]
    assert cert.certified.tolist() == [True, False, True]
    assert cert.sets.int().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]]


def test_verdicts_carry_the_reason():
    sets = AffinitySets([[0, 1], [2], [3]], 4)
    inputs = torch.tensor([[9.0, 8.0, 1.0, 0.0], [9.0, 8.9, 8.8, 0.0], [math.nan, 0.0, 0.0, 0.0]])
    cert = identity(Affinity(sets, eps=0.5)).certify(inputs)
    answers = [verdict.answer for verdict in cert.verdict]
    assert answers == [Answer.CERTIFIED, Answer.UNKNOWN, Answer.UNKNOWN]
    assert cert.verdict[0].reason == ""
    assert "margin is not positive" in cert.verdict[1].reason
    assert "not finite" in cert.verdict[2].reason


@pytest.mark.filterwarnings("ignore::relaxcert.errors.UncoveredClassWarning")
def test_a_prefix_outside_every_set_is_the_reason_given():
    cert = identity(Affinity(AffinitySets([[1, 2]], 4), eps=0.5)).certify(LADDER)
    assert "no prefix of the ranking may serve" in cert.verdict[0].reason
    assert cert.margin[0].item() == -math.inf


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", range(len(every_kind(4)) - 1))
def test_a_point_is_certified_below_its_radius_and_not_above(kind, norm):
    """Re-certified with properties of slightly smaller and larger eps."""
    backbone = random_backbone(kind, dtype=torch.float64)
    inputs = randn(kind, 6, 4)
    radii = GloRoNet(backbone, every_kind(4, 1, norm)[kind]).certify(inputs).radius
    assert bool((radii > 0).any())
    for index, radius in enumerate(radii.tolist()):
        if not 0 < radius < math.inf:
            continue
        below, above = (
            GloRoNet(backbone, every_kind(4, radius * factor, norm)[kind]).certify(inputs)
            for factor in (1 - 1e-9, 1 + 1e-9)
        )
        assert bool(below.certified[index])
        assert not bool(above.certified[index])
        assert below.radius[index].item() == pytest.approx(radius, rel=1e-8)


@pytest.mark.parametrize("kind", range(len(every_kind(4)) - 2))
def test_certified_points_have_a_radius_of_at_least_eps_and_others_at_most(kind):
    eps = Fraction(6, 10) if kind in (2, 3, 4) else Fraction(1, 10)  # where both answers occur
    net = GloRoNet(random_backbone(5), every_kind(4, eps)[kind])
    cert = net.certify(randn(5, 60, 4))
    for yes, radius in zip(cert.certified.tolist(), cert.radius.tolist(), strict=True):
        if yes:
            assert radius == math.inf or Fraction(radius) >= eps - Fraction(1, 10**16)
        else:
            assert Fraction(radius) <= eps * (1 + Fraction(1, 10**12))
    assert len(set(cert.certified.tolist())) == 2


def test_the_radius_of_a_relaxation_is_never_smaller():
    backbone, inputs = random_backbone(7), randn(7, 40, 4)
    local, two, three, pointwise = (
        GloRoNet(backbone, prop).certify(inputs).radius
        for prop in (
            Local(eps=1),
            RelaxedTopK(2, eps=1),
            RelaxedTopK(3, eps=1),
            RelaxedTopK(3, eps=1, quantifier="pointwise"),
        )
    )
    assert bool((local <= two).all())
    assert bool((two <= three).all())
    assert bool((three <= pointwise).all())
    assert bool((three < pointwise).any())


def test_eps_decides_by_its_exact_value_not_by_its_float():
    """0.1 as a text is a tenth, as a float a little more; both are rounded up, never down."""
    net = GloRoNet(nn.Sequential(linear([[1.0], [0.0]])), Local(eps="0.1"))
    tenth = torch.tensor([[0.1], [0.1 + 1e-12]], dtype=torch.float64)
    assert net.certify(tenth).certified.tolist() == [False, True]


def test_compositions_hold_the_certificates_of_their_parts():
    parts = [Local(eps=0.05), TopK(2, eps=0.2), Targeted.neighbours([0, 1, 2, 3], eps=0.3)]
    backbone, inputs = random_backbone(8), randn(8, 50, 4)
    singles = [GloRoNet(backbone, part).certify(inputs) for part in parts]
    both = GloRoNet(backbone, parts[0] & parts[1] & parts[2]).certify(inputs)
    either = GloRoNet(backbone, parts[0] | parts[1] | parts[2]).certify(inputs)
    for whole in (both, either):
        for part, single in zip(whole.parts, singles, strict=True):
            assert part.digest == single.digest
            for name in ("certified", "k", "sets", "margin", "radius"):
                assert torch.equal(getattr(part, name), getattr(single, name)), name
    verdicts = torch.stack([single.certified for single in singles])
    assert torch.equal(both.certified, verdicts.all(0))
    assert torch.equal(either.certified, verdicts.any(0))
    assert bool(both.certified.any())
    assert not bool(either.certified.all())


def test_a_composition_reports_a_set_only_of_a_certified_part():
    net = GloRoNet(random_backbone(8), Local(eps=0.05) | TopK(2, eps=0.2))
    cert = net.certify(randn(8, 80, 4))
    local, pair = cert.parts
    for index in range(80):
        k = cert.k[index].item()
        assert k == max(local.k[index].item(), pair.k[index].item())
        strictest = [p.k[index].item() for p in (local, pair) if p.k[index].item() > 0]
        assert cert.strictest_k[index].item() == min(strictest, default=0)
        assert cert.sets[index].sum().item() == k


def test_radii_of_compositions_over_different_norms_are_not_a_number():
    net = GloRoNet(random_backbone(8), Local(eps=0.05) & Local(eps=0.01, norm="linf"))
    cert = net.certify(randn(8, 5, 4))
    assert bool(cert.radius.isnan().all())
    assert not bool(cert.parts[0].radius.isnan().any())


def test_concatenated_batches_equal_the_whole_and_strangers_are_refused():
    net = GloRoNet(random_backbone(8), Local(eps=0.05) & TopK(2, eps=0.1))
    inputs = randn(8, 9, 4)
    whole = net.certify(inputs)
    joined = concatenate([net.certify(inputs[:4]), net.certify(inputs[4:])])
    assert torch.equal(joined.certified, whole.certified)
    assert torch.equal(joined.sets, whole.sets)
    assert torch.equal(joined.parts[1].k, whole.parts[1].k)
    assert len(joined) == len(joined.parts[0]) == 9
    with pytest.raises(InvalidInput, match="empty"):
        concatenate([])
    with pytest.raises(InvalidInput, match="different properties"):
        concatenate([whole, GloRoNet(net.backbone, Local(eps=0.05)).certify(inputs)])
    net.backbone[1].weight.data += 1
    with pytest.raises(InvalidInput, match="weights"):
        concatenate([whole, net.certify(inputs)])


def test_certificates_are_stamped_with_property_and_weights():
    net = GloRoNet(random_backbone(8), Local(eps=0.05))
    cert = net.certify(randn(8, 2, 4))
    assert cert.prop is net.prop
    assert cert.digest == net.digest == digest(net.prop)
    assert cert.fingerprint == fingerprint(net.backbone)


def test_records_are_plain_and_agree_with_the_certificates():
    cert = identity(RelaxedTopK(3, eps=0.5)).certify(LADDER)
    records = list(cert.records())
    json.dumps(records)
    assert [record["certified"] for record in records] == cert.certified.tolist()
    assert [record["set"] for record in records] == [[0, 1], [], [0, 1, 2]]
    assert [record["k"] for record in records] == cert.k.tolist()
    assert [record["strictest_k"] for record in records] == cert.strictest_k.tolist()
    assert [record["radius"] for record in records] == cert.radius.tolist()
    assert records[0]["reason"] == ""
    assert records[1]["reason"] != ""


def test_a_network_without_a_last_linear_layer_needs_the_number_of_classes():
    backbone = nn.Sequential(linear(torch.eye(4)), nn.ReLU())
    with pytest.raises(InvalidInput, match="num_classes is missing"):
        GloRoNet(backbone, Local(eps=0.1))
    with pytest.raises(InvalidInput, match="num_classes=5"):
        GloRoNet(nn.Sequential(linear(torch.eye(4))), Local(eps=0.1), 5)
    with pytest.raises(InvalidInput, match="at least 2 classes"):
        GloRoNet(nn.Sequential(linear([[1.0]])), Local(eps=0.1))
    cert = GloRoNet(backbone, Local(eps=0.1), 4).certify(LADDER)
    assert cert.certified.tolist() == [True, False, True]
    wrong = GloRoNet(backbone, Local(eps=0.1), 3)
    with pytest.raises(InvalidInput, match="returned shape"):
        wrong.certify(LADDER)
    with pytest.raises(InvalidInput, match="returned shape"):
        wrong.eval()(LADDER.double())
