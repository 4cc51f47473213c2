"""forward: in eval mode an argmax other than bottom is a certificate; in train mode it trains."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from relaxcert.heads import GloRoNet
from relaxcert.heads.bottom import proved_bottom, shown_logits
from relaxcert.heads.head import Outcome
from relaxcert.spec import Affinity, AffinitySets, Local, Property, RelaxedTopK, Targeted, TopK
from tests.networks import NORMS, every_kind, linear, randn, random_backbone

DTYPES = (torch.float32, torch.float64)


def outcome(margin: list[float]) -> Outcome:
    value = torch.tensor(margin, dtype=torch.float64)
    none = torch.zeros(len(margin), dtype=torch.long)
    sets = torch.zeros(len(margin), 2, dtype=torch.bool)
    return Outcome(value, value.clamp(max=0.0).nan_to_num(neginf=-1.0), none, none, sets, sets)


def with_eps(net: GloRoNet, prop: Property) -> GloRoNet:
    """The same network under another property, with the bounds that are already proved."""
    other = GloRoNet(net.backbone, prop).eval()
    other.lipschitz.present = net.verify()
    return other


def family(kind: str):
    sets = AffinitySets([[0, 1], [2, 3]], 4)
    return {
        "local": lambda eps: Local(eps=eps),
        "rtk": lambda eps: RelaxedTopK(3, eps=eps),
        "pointwise": lambda eps: RelaxedTopK(3, eps=eps, quantifier="pointwise"),
        "affinity": lambda eps: Affinity(sets, eps=eps),
        "targeted": lambda eps: Targeted.neighbours([0, 1, 2, 3], eps=eps),
        "both": lambda eps: Local(eps=eps) | TopK(2, eps=eps),
    }[kind]


def answers(net: GloRoNet, point: Tensor) -> tuple[bool, bool]:
    """(forward says certified, certify says so), for one point."""
    return says(net, point), bool(net.certify(point).certified)


def says(net: GloRoNet, point: Tensor) -> bool:
    """Whether forward says that the one point is certified."""
    with torch.no_grad():
        return net(point).argmax(1).item() != net.num_classes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["local", "rtk", "pointwise", "affinity", "targeted", "both"])
def test_argmax_other_than_bottom_implies_a_certificate_at_the_very_margin(kind, dtype):
    """eps is moved to where forward changes its answer, and stepped around that place."""
    met = {True: 0, False: 0}
    for seed in range(2):
        net = GloRoNet(random_backbone(seed, dtype=dtype), family(kind)(1)).eval()
        for place in range(3):
            point = randn(50 + 10 * seed + place, 1, 4, dtype=dtype)
            radius = Fraction(net.certify(point).radius.item())
            if radius == 0:
                continue
            low, high = radius / 2, radius * 2
            for _ in range(34):
                middle = Fraction(float((low + high) / 2))
                said = says(with_eps(net, family(kind)(middle)), point)
                low, high = (middle, high) if said else (low, middle)
            steps = [Fraction(s, 10**e) for e in (15, 12, 9, 7) for s in (-1, 1)]
            for eps in (low, high, radius, *(low * (1 + s) for s in steps)):
                said, proved = answers(with_eps(net, family(kind)(eps)), point)
                met[said] += 1
                assert proved or not said
    assert min(met.values()) > 10


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", NORMS)
def test_argmax_other_than_bottom_implies_a_certificate_for_every_kind(dtype, norm):
    for seed in range(2):
        backbone = random_backbone(seed, normalise=seed == 1, activation=nn.ReLU, dtype=dtype)
        inputs = randn(seed, 60, 4, dtype=dtype)
        for prop in every_kind(4, 0.03, norm):
            net = GloRoNet(backbone, prop).eval()
            cert = net.certify(inputs)
            said = net(inputs).argmax(1) != 4
            assert bool(cert.certified[said].all())
            assert int(said.sum()) >= int(cert.certified.sum()) - 2  # and little is lost by it
            assert torch.equal(net(inputs).argmax(1)[said], cert.prediction[said])


@pytest.mark.parametrize("dtype", DTYPES)
def test_with_huge_biases_float32_forward_answers_bottom_and_never_more_than_certify(dtype):
    """Soundness case 8: float32 cannot see what float64 proves."""
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for bias in (2.0**22, 2.0**24, 2.0**25, 2.0**40):
        net = GloRoNet(nn.Sequential(linear(weight, [bias, bias], dtype)), Local(eps=0.01)).eval()
        inputs = torch.tensor([[1.25, 1.0], [1.0, 1.0], [0.3, 0.7], [1.0, 1.0 + 2.0**-20]]).to(
            dtype
        )
        said = net(inputs).argmax(1) != 2
        assert bool(net.certify(inputs).certified[said].all())
        assert dtype == torch.float64 or bias < 2.0**24 or not bool(said.any())


@pytest.mark.parametrize("dtype", DTYPES)
def test_bottom_is_strictly_above_every_logit_unless_the_margin_is_proved(dtype):
    """100 - (-1e-9) is 100 in float32: a tie, which argmax would give to the class."""
    margins = [-1e-9, 0.0, -1e-300, -0.0, float("nan"), -torch.inf, 1e-9, 1.0]
    logits = torch.tensor([[100.0, 0.0]], dtype=dtype).repeat(len(margins), 1)
    bottom = proved_bottom(logits, outcome(margins))
    assert bool((bottom[:6] > 100.0).all())
    full = torch.cat([logits, bottom[:, None]], 1)
    assert full.argmax(1).tolist()[:6] == [2] * 6
    assert full.argmax(1).tolist()[7] == 0
    assert bool((bottom[6:].double() >= 100.0 - torch.tensor([1e-9, 1.0]).double()).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_bottom_is_rounded_up_and_infinite_where_bounds_or_logits_are_unusable(dtype):
    logits = torch.tensor([[1 / 3, 0.0], [float("inf"), 0.0], [float("nan"), 0.0]], dtype=dtype)
    bottom = proved_bottom(logits, outcome([1e-3, 1.0, 1.0]))
    exact = Fraction(logits[0, 0].item()) - Fraction(1e-3)
    assert Fraction(bottom[0].item()) >= exact
    assert bottom[1:].tolist() == [torch.inf, torch.inf]
    stale = proved_bottom(logits, outcome([1.0, 1.0, 1.0]), torch.tensor(False))
    assert stale.tolist() == [torch.inf] * 3
    full = torch.cat([shown_logits(logits), stale[:, None]], 1)
    assert full.argmax(1).tolist() == [2, 2, 2]
    assert not bool(full.isnan().any())


def test_highest_float_cannot_be_beaten_by_a_logit():
    logits = torch.full((1, 2), torch.finfo(torch.float32).max)
    assert proved_bottom(logits, outcome([-1.0])).item() == torch.inf


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", range(len(every_kind(4))))
def test_train_mode_is_finite_with_finite_gradients(kind, norm):
    net = GloRoNet(random_backbone(kind), every_kind(4, 0.1, norm)[kind]).train()
    inputs = randn(kind, 16, 4, dtype=torch.float32)
    inputs[0] = 0.0
    output = net(inputs)
    nn.functional.cross_entropy(output, torch.arange(16) % 4).backward()
    assert bool(output.isfinite().all())
    gradients = [p.grad for p in net.backbone.parameters()]
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert bool(gradients[0].any())


@pytest.mark.parametrize("norm", NORMS)
def test_train_mode_is_finite_for_zero_and_for_equal_weights(norm):
    for fill in (0.0, 0.5):
        net = GloRoNet(random_backbone(1), RelaxedTopK(2, eps=0.1, norm=norm)).train()
        with torch.no_grad():
            for parameter in net.backbone.parameters():
                parameter.fill_(fill)
        output = net(randn(1, 8, 4, dtype=torch.float32))
        nn.functional.cross_entropy(output, torch.zeros(8, dtype=torch.long)).backward()
        assert bool(output.isfinite().all())
        assert all(bool(p.grad.isfinite().all()) for p in net.backbone.parameters())


@pytest.mark.parametrize("kind", range(len(every_kind(4))))
def test_gradient_of_bottom_is_its_finite_difference(kind):
    """The iterates are converged first and then held, as a finite difference needs."""
    net = GloRoNet(
        random_backbone(9, hidden=(4,), dtype=torch.float64), every_kind(4)[kind]
    ).train()
    inputs = randn(3, 5, 4)
    for _ in range(300):
        net(inputs)
    weight = net.backbone[1].weight
    (found,) = torch.autograd.grad(net(inputs)[:, -1].sum(), weight)
    step = 1e-6
    for row, column in ((0, 0), (1, 2), (3, 3)):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[row, column] += sign * step
                for _ in range(20):
                    last = net(inputs)[:, -1].sum().item()
                ends.append(last)
                weight[row, column] -= sign * step
        slope = (ends[0] - ends[1]) / (2 * step)
        assert found[row, column].item() == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_train_and_eval_agree_once_the_estimate_has_converged():
    net = GloRoNet(random_backbone(4, dtype=torch.float64), RelaxedTopK(3, eps=0.05)).train()
    inputs = randn(4, 20, 4)
    for _ in range(1000):
        trained = net(inputs)
    torch.testing.assert_close(trained.detach(), net.eval()(inputs).detach(), rtol=1e-6, atol=1e-6)


def test_eval_mode_does_not_touch_the_iterates_and_logits_keep_their_gradient():
    net = GloRoNet(random_backbone(4), Local(eps=0.05)).eval()
    before = {k: v.clone() for k, v in net.lipschitz.state_dict().items()}
    inputs = randn(4, 20, 4, dtype=torch.float32).requires_grad_()
    net(inputs)[:, 0].sum().backward()
    assert bool(inputs.grad.any())
    assert all(torch.equal(v, before[k]) for k, v in net.lipschitz.state_dict().items())
    assert torch.equal(net(inputs)[:, :4], net.backbone(inputs))


def test_two_iterations_a_batch_certify_nothing_even_when_they_are_far_too_low():
    """Soundness case 1: the estimate may be low, eval mode and certify do not use it."""
    net = GloRoNet(random_backbone(4), Local(eps=0.05))
    for name, buffer in net.lipschitz.named_buffers():
        assert name.startswith("iterate_")
        buffer.zero_()
    inputs = randn(4, 20, 4, dtype=torch.float32)
    twin = GloRoNet(net.backbone, Local(eps=0.05))
    assert torch.equal(net.certify(inputs).margin, twin.certify(inputs).margin)
    assert torch.equal(net.eval()(inputs), twin.eval()(inputs))
