"""What the strategies draw is valid, reaches what it should reach, and shrinks."""

from __future__ import annotations

from fractions import Fraction
from math import inf, isinf

import pytest
import torch
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from torch import nn

from relaxcert.errors import InvalidProperty, UncoveredClassWarning
from relaxcert.heads import GloRoNet
from relaxcert.lipschitz.verified import verify
from relaxcert.nn.elementwise import Abs
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.spec import (
    Affinity,
    Ball,
    Conjunction,
    Disjunction,
    Local,
    RelaxedTopK,
    Targeted,
    TopK,
)
from relaxcert.testing import strategies
from relaxcert.testing.exact import exact_vector, forward, in_ball, tensor_of
from relaxcert.testing.lines import kinks_on_line
from relaxcert.testing.sampling import violations
from relaxcert.testing.strategies import IMAGE
from relaxcert.testing.strategies.backbones import Residual

MIXED = [Residual, Abs, nn.LeakyReLU, nn.Linear]
FEW = settings(max_examples=60, deadline=None)
SHRUNK = settings(max_examples=3000, deadline=None, derandomize=True, database=None)
SEARCH = settings(SHRUNK, phases=[Phase.generate])
counts = st.integers(3, 6)


@given(st.data(), counts)
@FEW
def test_properties_fit_their_number_of_classes(data, count):
    data.draw(strategies.properties(count)).check(count)


@given(st.data(), counts)
@FEW
def test_invalid_properties_are_refused(data, count):
    prop = data.draw(strategies.invalid_properties(count))
    with pytest.raises(InvalidProperty):
        prop.check(count)


@given(st.data(), counts)
@FEW
def test_invalid_arguments_are_refused(data, count):
    with pytest.raises(InvalidProperty):
        data.draw(strategies.invalid_arguments(count))()


@pytest.mark.parametrize(
    "wanted", [Local, TopK, RelaxedTopK, Affinity, Targeted, Conjunction, Disjunction]
)
def test_every_kind_is_drawn(wanted):
    find(strategies.properties(4), lambda prop: isinstance(prop, wanted), settings=SEARCH)


@pytest.mark.parametrize("order", ["uniform", "pointwise"])
def test_both_quantifiers_and_a_chosen_kind_and_ball_are_drawn(order):
    chosen = strategies.properties(
        4,
        kinds=["relaxed-top-k", "affinity"],
        compositions=False,
        ball=strategies.balls(eps=st.just("1/3"), norm=st.just("l1")),
    )
    prop = find(chosen, lambda prop: prop.quantifier == order, settings=SEARCH)
    assert isinstance(prop, RelaxedTopK | Affinity)
    assert (prop.ball.eps, prop.ball.norm) == (Fraction(1, 3), "l1")


def test_uncovered_classes_are_drawn_where_they_are_asked_for():
    def warns(sets):
        return bool(sets.uncovered)

    sets = find(strategies.affinity_sets(4, covered=False), warns, settings=SEARCH)
    with pytest.warns(UncoveredClassWarning):
        Affinity(sets, eps=1).check(4)


@pytest.mark.parametrize("tied", [set(), {1}, {2}, {3}, {1, 3}, {1, 2, 3}])
def test_ties_are_drawn_at_every_boundary(tied):
    ranking = find(strategies.rankings(4), lambda r: r.tied == tied, settings=SHRUNK)
    assert ranking.order == (0, 1, 2, 3), "and it shrinks to the plainest order"


@given(strategies.logits(5, ties=False))
@FEW
def test_without_ties_all_logits_differ(values):
    assert len(set(values)) == 5


def test_denormals_and_infinities_are_drawn_on_request():
    tiny = Fraction(5e-324)
    gaps = find(
        strategies.logits(3, denormals=True),
        lambda v: any(a - b == tiny for a in v for b in v),
        settings=SEARCH,
    )
    assert all(isinstance(value, Fraction) for value in gaps)
    both = strategies.logits(3, infinities=True)
    for end in (inf, -inf):
        assert find(both, lambda v, end=end: v.count(end) == 1, settings=SEARCH)
        assert find(both, lambda v, end=end: v.count(end) == 2, settings=SEARCH)
    assert not any(map(isinf, find(strategies.logits(3), lambda v: True, settings=SEARCH)))


layers = st.sampled_from([[nn.ReLU], [MinMax, nn.Linear], [nn.ReLU, InputNormalisation, nn.Linear]])


@given(st.data(), layers)
@FEW
def test_networks_are_supported_and_exact_in_float64(data, kinds):
    backbone = data.draw(strategies.networks(features=2, num_classes=3, layers=kinds))
    verify(backbone, ["l2"], 3)
    point = data.draw(strategies.exact_points(2))
    computed = backbone.double()(tensor_of(point)[None])
    assert exact_vector(computed) == forward(backbone, point)


@pytest.mark.parametrize(("shape", "kinds"), [((1, 4, 4), IMAGE), ((3,), MIXED)])
def test_certificates_of_networks_of_every_layer_hold(shape, kinds):
    """Convolutions, pooling, leaky slopes, absolute values and residual sums."""

    @given(strategies.networks(features=shape, num_classes=3, layers=kinds), st.integers(0, 99))
    @settings(max_examples=30, deadline=None)
    def sound(backbone, seed):
        inputs = torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed))
        wide = GloRoNet(backbone, Local(eps=1), input_shape=shape)
        radius = wide.certify(inputs).radius
        useful = radius[(radius > 0) & radius.isfinite()].tolist()
        net = GloRoNet(backbone, Local(eps=max(useful, default=1.0) * 0.999), input_shape=shape)
        assert violations(net, inputs, net.certify(inputs)) == []

    sound()


@pytest.mark.parametrize("kind", [*IMAGE, Residual, Abs])
def test_every_kind_of_layer_is_drawn(kind):
    shape = (1, 4, 4) if kind in IMAGE else 3
    drawn = strategies.networks(features=shape, layers=IMAGE if kind in IMAGE else MIXED)
    find(drawn, lambda net: any(isinstance(layer, kind) for layer in net), settings=SEARCH)


def test_networks_take_layers_of_the_users_own():
    class Twice(nn.Module):
        def forward(self, inputs):
            return 2 * inputs

    own = {Twice: lambda draw, shape: Twice()}
    drawn = find(
        strategies.networks(features=(1, 2), num_classes=3, layers=own, max_layers=2),
        lambda net: sum(isinstance(layer, Twice) for layer in net) == 2,
        settings=SEARCH,
    )
    assert drawn(torch.zeros(1, 1, 2)).shape == (1, 3)


@given(st.data(), strategies.balls(eps=st.fractions(Fraction(1, 8), 4)))
@settings(max_examples=150, deadline=None)
def test_perturbations_lie_in_the_ball_exactly(data, ball):
    backbone = data.draw(strategies.networks(features=2))
    centre = data.draw(strategies.exact_points(2))
    point = data.draw(strategies.perturbations(ball, centre, network=backbone))
    assert in_ball(ball, centre, point)


def test_perturbations_reach_sphere_corner_kink_and_the_point_itself():
    centre = (Fraction(0), Fraction(1, 8))
    cube = Ball.of(1, "linf")
    drawn = strategies.perturbations(cube, centre)
    corner = (Fraction(1), Fraction(9, 8))
    assert find(drawn, lambda p: p == corner, settings=SEARCH)
    assert find(drawn, lambda p: p == centre, settings=SEARCH)
    sphere = strategies.perturbations(Ball.of(5, "l2"), centre)
    assert find(sphere, lambda p: (p[0] - 0) ** 2 + (p[1] - centre[1]) ** 2 == 25, settings=SEARCH)
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(2))
        network[0].bias.zero_()
    (kink,) = kinks_on_line(network, centre, [Fraction(0), Fraction(1)], Fraction(-1), Fraction(1))
    assert kink == Fraction(-1, 8)
    bent = strategies.perturbations(cube, centre, network=network)
    assert find(bent, lambda p: p[1] == 0 and p[0] != 0, settings=SEARCH)


@given(strategies.datasets((2, 3), 4))
@FEW
def test_datasets_have_points_and_labels(dataset):
    points = len(dataset.labels)
    assert dataset.inputs.shape == (points, 2, 3)
    assert points >= 1
    assert bool((dataset.labels < 4).all())
    assert torch.equal(dataset.inputs.double(), (dataset.inputs.double() * 4).round() / 4)


def halved_bound_is_exceeded(backbone: nn.Module) -> bool:
    """A seeded bug: half of the product bound, against one step along each axis."""
    bounds = verify(backbone, ["linf"], 3).norms["linf"]
    limit = 0.5 * bounds.product * bounds.pairs
    with torch.no_grad():
        exact = backbone.double()
        change = (exact(torch.eye(2).double()) - exact(torch.zeros(1, 2).double())).double()
    difference = (change[:, :, None] - change[:, None, :]).abs()
    return bool((difference > limit).any())


def test_a_seeded_bug_shrinks_to_a_network_of_a_handful_of_weights():
    found = find(
        strategies.networks(features=2, num_classes=3),
        halved_bound_is_exceeded,
        settings=SHRUNK,
    )
    weights = torch.cat([parameter.flatten() for parameter in found.parameters()])
    assert len(found) == 1, "no hidden layer is left"
    assert len(weights) <= 9
    assert int((weights != 0).sum()) == 1
    assert float(weights.detach().abs().max()) == 0.25
