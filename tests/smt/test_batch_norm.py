"""BatchNorm, whose scale is irrational: enclosed, so that verdicts speak of the true function.

``ROOT_BITS`` is made small in most tests: what 128 bits hide then shows.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from relaxcert.errors import InvalidWeights, UnsupportedLayer
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.nn.layers import MinMax
from relaxcert.smt import crosscheck, exact_network, judge, spatial
from relaxcert.smt.deviation import deviation_over, logits_at
from relaxcert.smt.pieces import local_lipschitz
from relaxcert.smt.query import Region
from relaxcert.smt.translate import ExactNetwork
from relaxcert.spec import Local, TopK
from relaxcert.spec.verdict import Answer
from tests.networks import generator, linear, randn

COARSE = 6


def normalised(seed: int, features: int = 2, classes: int = 3) -> nn.Sequential:
    """Two BatchNorms with odd statistics, one of them right before the logits."""
    backbone = nn.Sequential(
        nn.Linear(features, 4), nn.BatchNorm1d(4), MinMax(), nn.Linear(4, 4), nn.ReLU(),
        nn.Linear(4, classes), nn.BatchNorm1d(classes),
    ).double()  # fmt: skip
    for number, tensor in enumerate((*backbone.parameters(), *backbone.buffers())):
        if tensor.is_floating_point():
            tensor.data.copy_(randn(seed + 50 * number, *tensor.shape))
    for layer in (backbone[1], backbone[6]):
        layer.running_var.abs_().add_(0.1)
    return backbone.eval()


def truth(backbone: nn.Sequential, point: tuple[Fraction, ...]) -> list[mpmath.mpf]:
    """The true logits to 60 digits, by the layers' formulas."""
    with mpmath.workdps(60):

        def number(value: float | Fraction) -> mpmath.mpf:
            exact = Fraction(value)
            return mpmath.mpf(exact.numerator) / exact.denominator

        values = [number(value) for value in point]
        for layer in backbone:
            if isinstance(layer, nn.Linear):
                rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
                values = [
                    mpmath.fsum(number(w) * v for w, v in zip(row, values, strict=True)) + number(b)
                    for row, b in rows
                ]
            elif isinstance(layer, nn.ReLU):
                values = [max(value, mpmath.mpf(0)) for value in values]
            elif isinstance(layer, MinMax):
                pairs = zip(values[::2], values[1::2], strict=True)
                values = [end for a, b in pairs for end in (min(a, b), max(a, b))]
            else:
                stored = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
                values = [
                    (value - number(m))
                    / mpmath.sqrt(number(Fraction(v) + Fraction(layer.eps)))
                    * number(w)
                    + number(b)
                    for value, m, v, w, b in zip(values, *(t.tolist() for t in stored), strict=True)
                ]
        return values


def ratio(value: Fraction) -> mpmath.mpf:
    return mpmath.mpf(value.numerator) / value.denominator


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), bits=st.sampled_from([COARSE, 20, 128]))
def test_the_true_logits_are_enclosed(seed, bits):
    backbone = normalised(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spatial, "ROOT_BITS", bits)
        network = exact_network(backbone, (2,))
    lower, upper = (Fraction(-2),) * 2, (Fraction(2),) * 2
    everywhere = deviation_over(network, lower, upper)
    for row in (torch.rand(4, 2, generator=generator(seed)).double() * 4 - 2).tolist():
        point = tuple(map(Fraction, row))
        here = logits_at(network, point)
        with mpmath.workdps(60):
            for true, value, near, far in zip(
                truth(backbone, point), here.values, here.doubt, everywhere, strict=True
            ):
                assert abs(true - ratio(value)) <= ratio(near) <= ratio(far)
                assert far < Fraction(2) ** (16 - bits)  # and useful


def root_of_two() -> nn.Sequential:
    """f(x) = (x / sqrt(2) + 1, 0): the prediction at 0 flips at -sqrt(2)."""
    backbone = nn.Sequential(
        linear([[1.0]], [0.0]), nn.BatchNorm1d(1, eps=0.0), linear([[1.0], [0.0]], [0.0, 0.0])
    ).double()
    backbone[1].running_var.fill_(2.0)
    backbone[1].bias.data.fill_(1.0)
    return backbone.eval()


def test_an_enclosure_that_is_too_narrow_is_noticed(monkeypatch):
    """The comparison above can fail: it does with an eighth of the doubt."""
    monkeypatch.setattr(spatial, "ROOT_BITS", COARSE)
    here = logits_at(exact_network(root_of_two(), (1,)), (Fraction(1),))
    with mpmath.workdps(60):
        off = abs(truth(root_of_two(), (Fraction(1),))[0] - ratio(here.values[0]))
        assert ratio(here.doubt[0] / 8) < off <= ratio(here.doubt[0])


def answer(network: ExactNetwork, eps: str) -> Answer:
    return judge(network, (Fraction(0),), Local(eps=eps), budget=0.5).verdict.answer


def test_verdicts_around_an_irrational_radius():
    network = exact_network(root_of_two(), (1,))
    assert answer(network, "1.4142135623730950488016887242") is Answer.CERTIFIED
    assert answer(network, "1.4142135623731") is Answer.FALSIFIED


def test_coarse_scales_answer_less_and_never_wrongly(monkeypatch):
    monkeypatch.setattr(spatial, "ROOT_BITS", COARSE)
    network = exact_network(root_of_two(), (1,))
    assert answer(network, "1.3") is Answer.CERTIFIED
    assert answer(network, "1.42") is Answer.UNKNOWN  # it fails, which 6 bits cannot tell
    assert answer(network, "1.5") is Answer.FALSIFIED


def test_seeded_fault_a_scale_taken_for_exact(monkeypatch):
    """Without its doubt, the coarse chain certifies what fails: the flip is at 1.41421..."""
    monkeypatch.setattr(spatial, "ROOT_BITS", COARSE)
    network = exact_network(root_of_two(), (1,))
    stages = tuple(replace(stage, doubt=None) for stage in network.stages)
    assert answer(replace(network, stages=stages), "1.42") is Answer.CERTIFIED


def test_seeded_fault_witnesses_that_only_nearly_violate(monkeypatch):
    """sqrt(1/2) from above: a chain without doubt falsifies what holds."""
    monkeypatch.setattr(
        spatial, "inverse_root", lambda square: (Fraction(3, 4), Fraction(1, 16))
    )  # flips at 4/3
    network = exact_network(root_of_two(), (1,))
    assert answer(network, "1.4") is Answer.UNKNOWN
    stages = tuple(replace(stage, doubt=None) for stage in network.stages)
    assert answer(replace(network, stages=stages), "1.4") is Answer.FALSIFIED


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_the_cross_check_judges_networks_with_batch_norm(norm):
    net = GloRoNet(normalised(1, 2, 4), TopK(2, eps="0.01", norm=norm), 4).eval()
    points = randn(1, 40, 2)
    found = crosscheck(net, points, audit_every=3)
    assert found.consistent
    summary = found.summary()
    assert summary["both_certify"] >= 1
    assert summary["rejected_and_fails"] >= 1
    assert summary["unknown"] == 0
    sharper = crosscheck(net, points, at_radius=True)
    assert sharper.consistent
    assert sharper.summary()["both_certify"] == 40


def test_a_batch_norm_whose_bound_is_too_small_is_caught(monkeypatch):
    """f = (x / sqrt(2), -x / sqrt(2)): with the bound 10 % too small, radii exceed the truth."""
    from relaxcert.lipschitz.rules_normalisation import BatchNormRule

    backbone = nn.Sequential(
        linear([[1.0]], [0.0]), nn.BatchNorm1d(1, eps=0.0), linear([[1.0], [-1.0]], [0.0, 0.0])
    ).double()
    backbone[1].running_var.fill_(2.0)
    net = GloRoNet(backbone.eval(), Local(eps="0.5")).eval()
    points = torch.linspace(0.2, 0.8, 20, dtype=torch.float64)[:, None]
    assert crosscheck(net, points, at_radius=True).consistent
    honest = BatchNormRule.verified
    monkeypatch.setattr(
        BatchNormRule,
        "verified",
        lambda self, layer, norm: replace(
            honest(self, layer, norm), value=0.9 * honest(self, layer, norm).value
        ),
    )
    fresh = GloRoNet(backbone, Local(eps="0.5")).eval()
    assert not crosscheck(fresh, points, at_radius=True).consistent


def test_logits_that_the_scale_cannot_order_are_unknown_not_a_verdict():
    backbone = nn.Sequential(
        linear([[1.0], [1.0], [-1.0]], [0.0, 0.0, 0.0]), nn.BatchNorm1d(3)
    ).double()
    network = exact_network(backbone.eval(), (1,))
    found = judge(network, (Fraction(1),), Local(eps="0.1"))
    assert found.verdict.answer is Answer.UNKNOWN
    assert "classes 0 and 1" in found.verdict.reason


def test_convolution_and_batch_norm_in_a_residual_sum():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)
            self.relu, self.flat, self.last = nn.ReLU(), nn.Flatten(), nn.Linear(9, 3)

        def forward(self, inputs):
            return self.last(self.flat(inputs + self.relu(self.norm(self.conv(inputs)))))

    torch.manual_seed(0)
    block = Block().double().eval()
    block.norm.running_var.fill_(0.7)
    network = exact_network(block, (1, 3, 3))
    point = randn(5, 1, 3, 3)
    computed = block(point[None])[0]
    here = logits_at(network, tuple(map(Fraction, point.flatten().tolist())))
    assert network.has_doubt
    assert [float(v) for v in here.values] == pytest.approx(computed.tolist(), rel=1e-12)
    net = GloRoNet(block, Local(eps="0.05")).eval()
    found = crosscheck(net, randn(6, 10, 1, 3, 3), audit_every=2)
    assert found.consistent
    assert found.summary()["both_certify"] > 0


def test_what_has_no_enclosure_is_refused():
    network = exact_network(normalised(1), (2,))
    region = Region.around((Fraction(0), Fraction(0)), Local(eps="0.1").balls[0])
    with pytest.raises(UnsupportedLayer, match="no exact values"):
        local_lipschitz(network, region, "l2")
    backbone = normalised(1)
    backbone[1].running_var.fill_(-1.0)
    with pytest.raises(InvalidWeights, match="running_var"):
        exact_network(backbone, (2,))
