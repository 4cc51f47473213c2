"""Eval mode by bounds known beforehand: below the exact links; the running bound as reference."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.errors import UnsupportedPrecision
from relaxcert.heads import GloRoNet, evaluation
from relaxcert.heads.beforehand_links import BeforehandLinks, allowances, pairs_in
from relaxcert.heads.evaluation import running_output
from relaxcert.lipschitz.a_priori import Affine, RoundingBeforehand
from relaxcert.lipschitz.pairs import TablePairs
from relaxcert.spec import Local, RelaxedTopK
from tests.lipschitz.exact import exact_vector, forward
from tests.networks import NORMS, every_kind, linear, randn, random_backbone

DTYPES = (torch.float32, torch.float64)


def links_of(net: GloRoNet, inputs: torch.Tensor) -> BeforehandLinks:
    ball = net.prop.balls[0]
    ((numbers, pairs),) = evaluation._ready(inputs, net.verify((4,)), (ball,)).values()
    (distance, error, paid, _), holds = numbers.at(inputs)
    assert bool(holds.all())
    with torch.no_grad():
        return BeforehandLinks(net.backbone(inputs), pairs, distance, error, paid)


def check_links(net: GloRoNet, inputs: torch.Tensor) -> None:
    """Each link is at most the exact f_j - f_i - eps P D_ji, in rational numbers."""
    links, ball = links_of(net, inputs), net.prop.balls[0]
    proved = net.verify((4,)).norms[ball.norm]
    reach = ball.eps * Fraction(proved.product)
    everything = torch.arange(net.num_classes).expand(len(inputs), -1)
    top = links.logits.topk(2, dim=1).indices
    found = [links.rows(everything), links.centre_rows(everything)]
    ranked = [links.ranked(top), links.centre_ranked(top)]
    for place, row in enumerate(inputs):
        truth = forward(net.backbone, exact_vector(row))
        for way, radius in enumerate((reach, Fraction(0))):

            def exact(j: int, i: int) -> Fraction:
                moved = radius * Fraction(proved.pairs[j, i].item())  # noqa: B023
                return truth[j] - truth[i] - moved  # noqa: B023

            order = top[place].tolist()
            rest = [i for i in range(net.num_classes) if i not in order]
            for j in range(net.num_classes):
                for i in range(net.num_classes):
                    if i != j:
                        assert Fraction(found[way][place, j, i].item()) <= exact(j, i)
            for rank, j in enumerate(order):
                other = order[1 - rank]
                assert Fraction(ranked[way][place, rank, 1 - rank].item()) <= exact(j, other)
                lowest = min(exact(j, i) for i in rest)
                assert Fraction(ranked[way][place, rank, 2].item()) <= lowest


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", NORMS)
def test_links_are_below_the_exact_ones(norm, dtype):
    for seed in range(3):
        net = GloRoNet(random_backbone(seed, dtype=dtype), Local(eps="0.01", norm=norm)).eval()
        for scale in (1e-30, 1.0, 1e4):
            check_links(net, (scale * randn(seed, 3, 4)).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_links_are_below_the_exact_ones_where_biases_absorb_differences(dtype):
    for bias in (2.0**24, -(2.0**24) - 2):
        backbone = nn.Sequential(linear(randn(1, 4, 4), [bias, bias, bias, bias], dtype))
        check_links(GloRoNet(backbone, Local(eps="0.01")).eval(), randn(2, 4, 4, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_links_are_below_the_exact_ones_where_layers_are_folded_into_the_pairs(dtype):
    layers = [linear(randn(place, 4, 4), randn(place + 9, 4), dtype) for place in (1, 2, 3)]
    net = GloRoNet(nn.Sequential(*layers), Local(eps="1e-9"), input_shape=(4,)).eval()
    assert net.verify().norms["l2"].error_scale > 1.0
    check_links(net, 64 * randn(5, 4, 4, dtype=dtype))


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_link_that_forgets_an_allowance_is_found(row, monkeypatch):
    """The mutations: no distance, no error, nothing paid."""
    original = evaluation.allowances

    def without(*arguments):
        made = original(*arguments)
        made.at_zero[row], made.slope[row] = 0.0, 0.0
        return made

    monkeypatch.setattr(evaluation, "allowances", without)
    large = [2.0**22] * 4
    first = linear(randn(1, 4, 4), large, torch.float32)
    # The second layer takes the large numbers away again, and leaves what they absorbed.
    back = linear(torch.eye(4), [-(2.0**22)] * 4, torch.float32)
    last = linear(randn(4, 4, 4), dtype=torch.float32)
    layers = {0: (last,), 1: (first, back, last), 2: (first,)}[row]
    net = GloRoNet(nn.Sequential(*layers), Local(eps="0.01" if row == 0 else "1e-12")).eval()
    with pytest.raises(AssertionError):
        check_links(net, randn(2, 40, 4, dtype=torch.float32))


def running(net: GloRoNet, inputs: torch.Tensor) -> torch.Tensor:
    shape = tuple(inputs.shape[1:])
    bounds = net.verify(shape)
    with torch.no_grad():
        return running_output(inputs, net.lipschitz.current_graph(shape), bounds, net.head)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", range(len(every_kind(4))))
def test_it_certifies_what_the_running_bound_does_with_an_eps_larger_by_a_32nd(kind, dtype):
    backbone, inputs = random_backbone(kind, dtype=dtype), randn(kind, 400, 4, dtype=dtype)
    for eps in (0.03, 1e-4):
        net = GloRoNet(backbone, every_kind(4, eps)[kind]).eval()
        wider = GloRoNet(backbone, every_kind(4, eps * 33 / 32)[kind]).eval()
        with torch.no_grad():
            said = net(inputs).argmax(1) != 4
        assert bool(said[running(wider, inputs).argmax(1) != 4].all())
        assert bool(net.certify(inputs).certified[said].all())
        assert bool(said.any())


def test_points_that_the_bounds_do_not_cover_are_answered_by_the_running_one():
    net = GloRoNet(random_backbone(1), RelaxedTopK(2, eps="0.01")).eval()
    inputs = randn(1, 8, 4, dtype=torch.float32)
    inputs[1, 0], inputs[2, 1], inputs[3] = torch.nan, torch.inf, 3e38
    inputs[4] = -torch.inf
    with torch.no_grad():
        output = net(inputs)
    assert output.argmax(1)[1:5].tolist() == [4] * 4
    assert torch.equal(output[1:5], running(net, inputs[1:5]))
    assert not bool(output.isnan().any())


def test_points_are_taken_again_as_they_were_although_a_layer_overwrites_them():
    """LeakyReLU in place, first: a second pass over what it left would see other points."""

    def network(*, inplace: bool) -> GloRoNet:
        first = nn.LeakyReLU(-2.0, inplace=inplace)
        last = linear(randn(1, 3, 4), dtype=torch.float32)
        return GloRoNet(nn.Sequential(first, last), Local(eps="0.01")).eval()

    inputs = randn(2, 300, 4, dtype=torch.float32)
    inputs[5, 0] = torch.inf
    with torch.no_grad():
        wanted = network(inplace=False)(inputs.clone())
        found = network(inplace=True)(inputs.clone())
    assert torch.equal(found, wanted)


def test_few_points_are_taken_twice(monkeypatch):
    taken: list[int] = []
    original = evaluation.running_output
    monkeypatch.setattr(
        evaluation,
        "running_output",
        lambda inputs, *rest: taken.append(len(inputs)) or original(inputs, *rest),
    )
    net = GloRoNet(random_backbone(2), RelaxedTopK(3, eps="0.02")).eval()
    with torch.no_grad():
        net(randn(3, 2000, 4, dtype=torch.float32))
    assert sum(taken) < 10


@pytest.mark.parametrize("dtype", DTYPES)
def test_distances_are_rounded_up(dtype):
    table = randn(1, 9, 9).abs()
    table[0, 0], table[1, 2] = 0.0, 1e-60
    found = pairs_in(TablePairs(table), dtype)
    assert bool((found.table.double() >= table).all())
    assert bool((found.table.double() <= table * (1 + 2.0**-23) + 1e-44).all())
    assert found.table[0, 0] == 0.0


def test_a_norm_that_loses_digits_on_its_way_to_float32_is_allowed_for():
    """Of many numbers it is computed in float64; then it may fall between two subnormal ones."""
    steep = Affine(0.0, 2.0**60)
    known = RoundingBeforehand(steep, steep, Affine(0.0, 0.0), Affine(0.0, 0.0), 1.0)
    points = torch.zeros(1, 2**18 + 1)
    points[0, :2] = 2.0**-149
    (_, error, _, _), _ = allowances(known, 0.0, 1.0, 2.0, points).at(points)
    assert error.double().item() >= 2.0**60 * 2.0**-149 * 2**0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.int64])
def test_points_without_a_rounding_analysis_are_refused_where_no_weight_has_a_dtype(dtype):
    net = GloRoNet(nn.Sequential(nn.Flatten()), Local(eps="0.01"), num_classes=4).eval()
    with pytest.raises(UnsupportedPrecision, match="no rounding analysis"):
        net(torch.tensor([[1, 2, 3, 9]], dtype=dtype))


def test_weights_whose_squares_overflow_are_answered():
    layers = [linear(1e200 * torch.eye(4, dtype=torch.float64)), nn.ReLU(), linear(torch.eye(4))]
    net = GloRoNet(nn.Sequential(*layers), Local(eps="0.01")).eval()
    points = torch.tensor([[1.0, 2.0, 3.0, 9.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    assert net(points).argmax(1).tolist() == [3, 4]
