"""Ties, equal rows, few classes, odd inputs: where certificates are easily wrong."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from relaxcert.errors import (
    InvalidInput,
    UncoveredClassWarning,
    UnsupportedPrecision,
    VacuousProperty,
)
from relaxcert.heads import GloRoNet
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, Targeted, TopK
from tests.heads import checks
from tests.networks import every_kind, linear, randn, random_backbone


def constant_logits(logits: list[float], prop, dtype=torch.float32) -> GloRoNet:
    """A network whose logits do not depend on the input: K_ji = 0 throughout."""
    return GloRoNet(nn.Sequential(linear(torch.zeros(len(logits), 2), logits, dtype)), prop).eval()


def identity_net(classes: int, prop, dtype=torch.float32) -> GloRoNet:
    """Logits are the input itself."""
    return GloRoNet(nn.Sequential(linear(torch.eye(classes), dtype=dtype)), prop).eval()


def test_ties_at_the_top_are_never_certified():
    assert checks.certified_ties() == []
    assert checks.certified_tied_points() == []


TIED = [[2.0, 2.0, 1.0, 0.0], [2.0, 2.0, 2.0, 0.0], [2.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]


@pytest.mark.parametrize("logits", TIED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tied_top_certifies_neither_local_nor_targeted_at_any_radius(logits, dtype):
    for prop in (
        Local(eps=1e-30),
        Targeted.neighbours([0, 1, 2, 3], eps=1e-30),
        TopK(1, eps=1e-30),
    ):
        for net in (constant_logits(logits, prop, dtype), identity_net(4, prop, dtype)):
            inputs = torch.tensor([logits], dtype=dtype)
            point = inputs if net.backbone[0].in_features == 4 else inputs[:, :2]
            cert = net.certify(point)
            assert not bool(cert.certified)
            assert cert.radius.item() == 0.0
            assert net(point).argmax(1).item() == 4


def test_only_boundaries_without_a_tie_are_certified():
    """Logits 3 > 2 = 2 > 1 = 1 > 0: k = 1, 3, 5 may serve, k = 2 and 4 may not."""
    logits = torch.tensor([[3.0, 2.0, 2.0, 1.0, 1.0, 0.0]])
    for k in range(1, 6):
        assert bool(identity_net(6, TopK(k, eps=0.01)).certify(logits).certified) == (
            k in (1, 3, 5)
        )
    cert = identity_net(6, RelaxedTopK(4, eps=0.01)).certify(logits)
    assert (cert.k.item(), cert.strictest_k.item()) == (3, 1)
    sets = AffinitySets([[0, 1], [1, 2], [0, 3], [4, 5]], 6)
    assert identity_net(6, Affinity(sets, eps=0.01)).certify(logits).k.item() == 1


def test_double_ties_do_not_cancel():
    """Two ties at once: in bit maps by value they cancel (design, section 1)."""
    logits = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    sets = AffinitySets([[0, 1], [2, 3]], 4)
    assert not bool(identity_net(4, Local(eps=0.01)).certify(logits).certified.any())
    assert not bool(identity_net(4, TopK(3, eps=0.01)).certify(logits).certified.any())
    cert = identity_net(4, Affinity(sets, eps=0.01)).certify(logits)
    assert cert.k.tolist() == [2, 2]
    assert cert.sets.tolist() == [[True, True, False, False], [False, False, True, True]]
    split = AffinitySets([[0, 2], [1, 3]], 4)
    assert not bool(identity_net(4, Affinity(split, eps=0.01)).certify(logits).certified.any())


def test_a_tie_below_the_top_leaves_uniform_and_pointwise_certificates_of_longer_prefixes():
    logits = torch.tensor([[5.0, 5.0, 0.0]])
    for quantifier in ("uniform", "pointwise"):
        prop = RelaxedTopK(2, eps=0.01, quantifier=quantifier)
        cert = identity_net(3, prop).certify(logits)
        assert cert.certified.tolist() == [True]
        assert cert.k.tolist() == [2]


def test_identical_classes_are_never_certified_apart_and_constant_ones_at_any_radius():
    weight = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    same = GloRoNet(nn.Sequential(linear(weight, [0.5, 0.5])), Local(eps=1e-300)).eval()
    point = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    assert not bool(same.certify(point).certified)
    assert same.certify(point).radius.item() == 0.0
    assert same(point).argmax(1).item() == 2
    apart = GloRoNet(nn.Sequential(linear(weight, [0.75, 0.5])), Local(eps=1e300)).eval()
    assert bool(apart.certify(point).certified)
    assert apart.certify(point).radius.item() == math.inf
    assert apart(point).argmax(1).item() == 0


def test_a_difference_that_float64_cannot_be_sure_of_is_not_certified_even_with_constant_logits():
    """Equal rows, biases one unit apart beside a large product: rounding decides nothing."""
    weight = torch.tensor([[1.0, 1e8], [1.0, 1e8]])
    net = GloRoNet(nn.Sequential(linear(weight, [2.0**-10, 0.0])), Local(eps=1e-9))
    assert not bool(net.certify(torch.tensor([[1.0, 1e8]])).certified)
    assert bool(net.certify(torch.tensor([[1.0, 1e-8]])).certified)


def test_two_classes_and_the_longest_prefix():
    two = identity_net(2, Local(eps=0.4))
    assert two.certify(torch.tensor([[1.0, 0.0], [0.5, 0.0]])).certified.tolist() == [True, False]
    for prop in (TopK(3, eps=0.3), RelaxedTopK(3, eps=0.3)):
        cert = identity_net(4, prop).certify(torch.tensor([[1.0, 1.0, 1.0, 0.0]]))
        assert cert.k.tolist() == [3]
        assert cert.sets.tolist() == [[True, True, True, False]]
    for prop in (TopK(4, eps=0.3), RelaxedTopK(5, eps=0.3)):
        with pytest.raises(VacuousProperty):
            identity_net(4, prop)


def test_overlapping_sets_admit_a_prefix_if_one_of_them_holds_it():
    sets = AffinitySets([[0, 1], [1, 2], [3]], 4)
    net = identity_net(4, Affinity(sets, eps=0.1))
    inputs = torch.tensor(
        [[5.0, 4.9, 0.0, 0.0], [0.0, 4.9, 5.0, 0.0], [4.9, 0.0, 5.0, 0.0], [0.0, 0.0, 4.9, 5.0]]
    )
    cert = net.certify(inputs)
    assert cert.k.tolist() == [2, 2, 0, 0]
    assert cert.certified.tolist() == [True, True, False, False]


@pytest.mark.parametrize("quantifier", ["uniform", "pointwise"])
def test_uncovered_classes_are_never_certified_and_keep_loss_and_gradient_finite(quantifier):
    sets = AffinitySets([[0, 1]], 4)
    with pytest.warns(UncoveredClassWarning):
        net = GloRoNet(random_backbone(1), Affinity(sets, eps=0.1, quantifier=quantifier))
    inputs = randn(1, 40, 4, dtype=torch.float32)
    output = net(inputs)
    assert bool(output.isfinite().all())
    nn.functional.cross_entropy(output, torch.zeros(40, dtype=torch.long)).backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.backbone.parameters())
    cert = net.certify(inputs)
    uncovered = cert.prediction >= 2
    assert bool(uncovered.any())
    assert not bool(cert.certified[uncovered].any())
    assert bool((cert.margin[uncovered] == -math.inf).all())
    assert bool((net.eval()(inputs).argmax(1) == 4)[uncovered].all())


BAD = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", range(len(every_kind(4))))
def test_points_that_are_not_finite_are_never_certified(bad, kind):
    net = GloRoNet(random_backbone(2), every_kind(4, 1e-6)[kind]).eval()
    inputs = randn(2, 5, 4, dtype=torch.float32)
    inputs[3, 1] = bad
    cert = net.certify(inputs)
    assert not bool(cert.certified[3])
    assert (cert.k[3].item(), cert.radius[3].item()) == (0, 0.0)
    assert not bool(cert.sets[3].any())
    assert math.isnan(cert.margin[3].item())
    assert "not finite" in cert.verdict[3].reason
    output = net(inputs)
    assert output.argmax(1)[3].item() == 4
    assert bool(cert.certified[[0, 1, 2, 4]].any())


@pytest.mark.parametrize("first", [nn.ReLU(), nn.ReLU(inplace=True), MinMax()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinity_that_an_activation_makes_finite_is_not_certified(first, dtype):
    """ReLU(-inf) = 0, so that the logits look well."""
    backbone = nn.Sequential(first, nn.ReLU(), linear(torch.eye(2), [5.0, 0.0], dtype))
    net = GloRoNet(backbone, Local(eps=0.1)).eval()

    def inputs():
        return torch.tensor([[-math.inf, -math.inf], [0.0, 0.0]], dtype=dtype)

    assert net.certify(inputs()).certified.tolist() == [False, True]
    assert net(inputs()).argmax(1).tolist() == [2, 0]


def test_float32_overflow_inside_the_network_is_not_certified_by_forward():
    """The sum passes through -inf, ReLU makes 0 of it; in truth it is 6e37."""
    body = linear([[1.0, 1.0, 1.0, 1.0]], dtype=torch.float32)
    last = linear([[-1.0], [0.0]], [1e37, 0.0], torch.float32)
    net = GloRoNet(nn.Sequential(body, nn.ReLU(), last), Local(eps=0.1)).eval()
    point = torch.tensor([[-3e38, -3e38, 3.3e38, 3.3e38]])
    assert net(point).argmax(1).item() == 2
    assert net.certify(point).prediction.item() == 1


def test_logits_beyond_float32_are_bottom_in_forward():
    net = identity_net(2, Local(eps=0.1))
    net.backbone[0].weight.data *= 1e38
    output = net(torch.tensor([[100.0, 1.0], [1.0, 0.0]]))
    assert output.argmax(1).tolist() == [2, 0]
    assert not bool(output.isnan().any())


@pytest.mark.parametrize("kind", range(len(every_kind(4))))
def test_no_points_give_no_certificates(kind):
    net = GloRoNet(random_backbone(3), every_kind(4)[kind])
    cert = net.certify(torch.zeros(0, 4))
    assert len(cert) == 0
    assert cert.sets.shape == (0, 4)
    assert cert.verdict == ()
    assert list(cert.records()) == []
    assert net.eval()(torch.zeros(0, 4)).shape == (0, 5)
    assert net.train()(torch.zeros(0, 4)).shape == (0, 5)


def same(one, other) -> None:
    for name in ("certified", "prediction", "k", "strictest_k", "sets", "strictest_sets"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    torch.testing.assert_close(one.margin, other.margin, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(one.radius, other.radius, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", range(len(every_kind(4))))
def test_memory_layout_and_batch_size_change_no_verdict(kind):
    net = GloRoNet(random_backbone(4), every_kind(4, 0.7)[kind])
    inputs = randn(4, 30, 4, dtype=torch.float32)
    whole = net.certify(inputs)
    same(whole, net.certify(inputs.mT.contiguous().mT))
    for size in (1, 7, 30, 100):
        same(whole, net.certify(inputs, batch_size=size))
    assert bool(whole.certified.any())
    assert not bool(whole.certified.all())


def test_strided_inputs_are_read_as_they_stand():
    net = GloRoNet(random_backbone(4), Local(eps=0.05)).eval()
    wide = randn(5, 20, 8, dtype=torch.float32)
    view = wide[:, ::2]
    same(net.certify(view), net.certify(view.contiguous()))
    assert torch.equal(net(view), net(view.contiguous()))
    expanded = wide[:1, :4].expand(6, 4)
    assert len(set(net.certify(expanded).certified.tolist())) == 1


def test_numbers_of_other_types_are_taken_exactly():
    net = GloRoNet(
        nn.Sequential(InputNormalisation(128.0, 64.0), *random_backbone(6)), Local(eps=0.2)
    )
    integers = torch.randint(0, 256, (20, 4), generator=torch.Generator().manual_seed(1))
    wanted = net.certify(integers.double())
    assert bool(wanted.certified.any())
    for dtype in (torch.uint8, torch.int16, torch.int32, torch.float16, torch.float32):
        same(wanted, net.certify(integers.to(dtype)))
    net.eval()
    for dtype in (torch.uint8, torch.int16, torch.float16):
        assert torch.equal(net(integers.to(dtype)), net(integers.float()))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_types_that_float64_does_not_hold_are_refused(dtype):
    net = GloRoNet(random_backbone(6), Local(eps=0.2))
    with pytest.raises(InvalidInput, match="dtype"):
        net.certify(torch.ones(2, 4).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.int64])
@pytest.mark.parametrize("mode", [True, False])
def test_forward_refuses_inputs_that_float32_would_round(dtype, mode):
    """2^24 + 1 is an int32 and no float32: forward would answer for another point."""
    net = GloRoNet(random_backbone(6), Local(eps=0.2)).train(mode)
    with pytest.raises(InvalidInput, match="rounding"):
        net(torch.full((1, 4), 2**24 + 1).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_refused(dtype):
    net = GloRoNet(random_backbone(6).to(dtype), Local(eps=0.2)).eval()
    with pytest.raises(UnsupportedPrecision):
        net.certify(torch.zeros(1, 4))
    with pytest.raises(UnsupportedPrecision):
        net(torch.zeros(1, 4, dtype=dtype))


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 3, 4), (4, 4, 4)])
def test_logits_that_are_not_one_row_a_point_are_refused(shape):
    net = GloRoNet(nn.Sequential(nn.Linear(4, 4)), Local(eps=0.001)).eval()
    with pytest.raises(InvalidInput, match="backbone returned shape"):
        net.certify(torch.zeros(shape))
    with pytest.raises(InvalidInput, match="backbone returned shape"):
        net(torch.zeros(shape))


def test_inputs_that_do_not_fit_are_refused():
    net = GloRoNet(random_backbone(6), Local(eps=0.2))
    with pytest.raises(InvalidInput, match="do not fit the backbone"):
        net.certify(torch.zeros(2, 5))
    with pytest.raises(InvalidInput, match="expected \\(batch"):
        net.certify(torch.zeros(4))
    with pytest.raises(InvalidInput, match="batch_size"):
        net.certify(torch.zeros(2, 4), batch_size=0)


def test_a_grey_image_is_not_stretched_over_three_channels():
    """The copy would be sqrt(3) times as sensitive as the bound of the normalisation says."""
    backbone = nn.Sequential(
        InputNormalisation(torch.zeros(3, 1, 1), torch.ones(3, 1, 1)),
        nn.Flatten(),
        nn.Linear(12, 2),
    )
    net = GloRoNet(backbone, Local(eps=0.1)).eval()
    assert len(net.certify(torch.zeros(1, 3, 2, 2))) == 1
    for run in (net, net.certify):
        with pytest.raises(InvalidInput, match="InputNormalisation"):
            run(torch.zeros(1, 1, 2, 2))


def test_the_property_is_fixed_and_a_replaced_backbone_is_refused():
    net = GloRoNet(random_backbone(6), Local(eps=0.2)).eval()
    with pytest.raises(AttributeError):
        net.prop = Local(eps=5)
    net.backbone = random_backbone(7)
    for run in (net, net.certify, net.train()):
        with pytest.raises(InvalidInput, match="replaced"):
            run(torch.zeros(1, 4))


def test_copies_and_pickles_of_a_network_keep_their_own_backbone():
    net = GloRoNet(random_backbone(6), Local(eps=0.2)).eval()
    inputs = randn(9, 6, 4, dtype=torch.float32)
    cert = net.certify(inputs)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        same(twin.certify(inputs), cert)
        twin.backbone[1].weight.data *= 2
        assert not torch.equal(twin.certify(inputs).margin, cert.margin)
    same(net.certify(inputs), cert)


def test_dropout_is_off_in_certify_and_refused_when_on_in_eval_mode():
    backbone = nn.Sequential(linear(torch.eye(4)), nn.Dropout(0.5), linear(torch.eye(4)))
    net = GloRoNet(backbone, Local(eps=0.1)).train()
    inputs = randn(8, 20, 4)
    same(net.certify(inputs), net.certify(inputs))
    assert net.training
    assert torch.equal(net.certify(inputs).logits, inputs)
    net.eval()
    assert torch.equal(net(inputs)[:, :4], inputs)
    net.backbone.train()
    with pytest.raises(InvalidInput, match="train mode"):
        net(inputs)


def test_reduced_precision_products_are_refused_in_forward_and_harmless_in_certify():
    net = GloRoNet(random_backbone(6), Local(eps=0.2)).eval()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(UnsupportedPrecision, match="medium"):
            net(torch.zeros(1, 4))
        assert len(net.certify(torch.zeros(1, 4))) == 1
    finally:
        torch.set_float32_matmul_precision("highest")


def test_reduced_precision_of_one_backend_alone_is_refused_in_forward():
    """torch's newer switches, of which its older question knows nothing."""
    net = GloRoNet(random_backbone(6), Local(eps=0.2)).eval()
    switch = torch.backends.mkldnn.matmul
    if not hasattr(switch, "fp32_precision"):
        pytest.skip("this torch has one switch only")
    before = switch.fp32_precision
    try:
        switch.fp32_precision = "bf16"
        with pytest.raises(UnsupportedPrecision):
            net(torch.zeros(1, 4))
    finally:
        switch.fp32_precision = before
    assert net(torch.zeros(1, 4)).shape == (1, 5)


def test_flushed_subnormal_numbers_are_refused_also_with_bounds_at_hand():
    net = GloRoNet(random_backbone(6), Local(eps=0.2)).eval()
    net.verify()
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormal numbers")
    try:
        for run in (net, net.certify):
            with pytest.raises(UnsupportedPrecision, match="flush"):
                run(torch.zeros(1, 4))
    finally:
        torch.set_flush_denormal(False)


def test_autocast_changes_neither_forward_nor_certify():
    net = GloRoNet(random_backbone(6), Local(eps=0.2)).eval()
    inputs = randn(9, 6, 4, dtype=torch.float32)
    plain, cert = net(inputs), net.certify(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(net(inputs), plain)
        same(net.certify(inputs), cert)


def test_certify_sees_every_change_of_the_weights():
    net = GloRoNet(random_backbone(6), Local(eps=0.05)).eval()
    inputs = randn(9, 30, 4, dtype=torch.float32)
    before = net.certify(inputs)
    net.backbone[1].weight.data *= 3
    after = net.certify(inputs)
    fresh = GloRoNet(net.backbone, Local(eps=0.05)).certify(inputs)
    same(after, fresh)
    assert before.fingerprint != after.fingerprint
    assert not torch.equal(before.margin, after.margin)
    net.load_state_dict({k: v * 1.5 for k, v in net.state_dict().items()})
    same(net.certify(inputs), GloRoNet(net.backbone, Local(eps=0.05)).certify(inputs))
