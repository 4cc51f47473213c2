"""Margin PGD: witnesses checked in exact arithmetic, and no certificate ever broken."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from relaxcert.attacks import AttackResult, attack
from relaxcert.attacks.margin_pgd import project, steepest
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.nn import MinMax
from relaxcert.spec import Affinity, AffinitySets, Local, Property, RelaxedTopK, Targeted, TopK
from relaxcert.spec.ball import Ball
from relaxcert.spec.reference import holds
from relaxcert.training import fit
from tests.networks import NORMS, every_kind, linear, randn, random_backbone
from tests.training.toy import blobs, network
from tests.training.toy import settings as toy_settings

norms = pytest.mark.parametrize("norm", NORMS)
Exact = tuple[Fraction, ...]


def exact_forward(backbone: nn.Sequential, point: Exact) -> Exact:
    """The real-arithmetic function of the stored weights."""
    values = list(point)
    for layer in backbone:
        match layer:
            case nn.Linear():
                rows = [[Fraction(w) for w in row] for row in layer.weight.tolist()]
                offsets = [Fraction(0)] * len(rows)
                if layer.bias is not None:
                    offsets = [Fraction(b) for b in layer.bias.tolist()]
                values = [
                    sum((w * v for w, v in zip(row, values, strict=True)), offset)
                    for row, offset in zip(rows, offsets, strict=True)
                ]
            case MinMax():
                pairs = [values[i : i + 2] for i in range(0, len(values), 2)]
                values = [v for pair in pairs for v in (min(pair), max(pair))]
            case nn.ReLU():
                values = [max(v, Fraction(0)) for v in values]
            case nn.Flatten():
                pass
            case _:
                raise AssertionError(layer)
    return tuple(values)


def exact(row: Tensor) -> Exact:
    return tuple(Fraction(value) for value in row.double().flatten().tolist())


def inside(centre: Exact, point: Exact, ball: Ball) -> bool:
    """||x' - x|| <= eps, exactly; l2 without a square root."""
    offsets = [abs(a - b) for a, b in zip(centre, point, strict=True)]
    match ball.norm:
        case "l2":
            return sum(o * o for o in offsets) <= ball.eps**2
        case "linf":
            return max(offsets) <= ball.eps
        case _:
            return sum(offsets) <= ball.eps


def leaf_balls(prop: Property) -> list[Ball]:
    """The ball of each target, in the order of the result."""
    if len(prop.parts) > 1:
        return [ball for part in prop.parts for ball in leaf_balls(part)]
    if isinstance(prop, Targeted) or prop.quantifier == "pointwise":
        return [prop.ball]
    return [prop.ball] * max(prop.lengths())


def check_exactly(net: GloRoNet, inputs: Tensor, result: AttackResult) -> int:
    """Each falsified point: its witnesses lie in their balls and the property fails on them."""
    balls = leaf_balls(net.prop)
    assert result.broken.shape[1] == len(balls)
    for row in result.falsified.nonzero().flatten().tolist():
        centre = exact(inputs[row])
        points: dict[Ball, list[Exact]] = {ball: [] for ball in balls}
        for place, ball in enumerate(balls):
            if result.broken[row, place]:
                witness = exact(result.witnesses[row, place])
                assert inside(centre, witness, ball)
                points[ball].append(exact_forward(net.backbone, witness))
        at_centre = exact_forward(net.backbone, centre)
        assert not holds(net.prop, at_centre, points.__getitem__)
    return int(result.falsified.sum())


@norms
@pytest.mark.parametrize("place", range(11))
@pytest.mark.parametrize("activation", [MinMax, nn.ReLU])
def test_witnesses_of_every_kind_lie_in_the_ball_and_break_the_property(norm, place, activation):
    eps = {"l2": 1.5, "linf": 1.0, "l1": 3.0}[norm]
    prop = every_kind(4, eps=eps, norm=norm)[place]
    backbone = random_backbone(place, hidden=(6,), activation=activation)
    inputs = 0.7 * randn(3, 12, 4)
    net = GloRoNet(backbone, prop).eval()
    result = attack(net, inputs, steps=12, restarts=2)
    assert check_exactly(net, inputs, result) >= 1
    assert not bool((result.falsified & net.certify(inputs).certified).any())


def flip_of(norm: str) -> float:
    """f_0 - f_1 = 3 a + 4 b: the distance to f_0 = f_1 from (1, 1) is 7 / dual norm of (3, 4)."""
    return 7 / {"l2": 5.0, "linf": 7.0, "l1": 4.0}[norm]


@norms
@pytest.mark.parametrize(
    "kind",
    [
        lambda **ball: Local(**ball),
        lambda **ball: RelaxedTopK(1, **ball, quantifier="pointwise"),
        lambda **ball: Targeted([[0], [1, 2], [2, 1]], **ball),
    ],
)
def test_a_linear_models_flip_is_found_just_beyond_its_radius_and_not_within(norm, kind):
    backbone = nn.Sequential(linear([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]], [0.0, 0.0, -100.0]))
    point = torch.ones(1, 2, dtype=torch.float64)
    radius = flip_of(norm)
    beyond = GloRoNet(backbone, kind(eps=radius * (1 + 1e-5), norm=norm))
    result = attack(beyond, point)
    assert result.falsified.tolist() == [True]
    assert check_exactly(beyond, point, result) == 1
    within = GloRoNet(backbone, kind(eps=radius * (1 - 1e-9), norm=norm))
    assert attack(within, point).falsified.tolist() == [False]
    # At the radius itself f_0 = f_1 on one point only: nothing certain can be said.
    assert float(attack(within, point).lowest[0, 0]) >= 0.0


@norms
def test_relaxed_top_k_is_broken_only_where_each_k_is(norm):
    """f = (0, -1 + a, -1 + b): k = 1 flips at one place, k = 2 at another."""
    backbone = nn.Sequential(
        linear([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0, -1.0, -1.5], torch.float64)
    )
    point = torch.zeros(1, 2, dtype=torch.float64)
    # Ranks 0, 1, 2. f_0 - f_1 = 1 - a breaks k = 1 beyond 1 in every norm; f_1 - f_2 breaks k = 2
    # beyond 0.5 / dual norm of (1, -1), f_0 - f_2 never first.
    second = 0.5 / {"l2": 2**0.5, "linf": 2.0, "l1": 1.0}[norm]
    for eps, local, top2, relaxed in [
        (0.99 * second, False, False, False),
        (1.01 * second, False, True, False),
        (0.99, False, True, False),
        (1.01, True, True, True),
    ]:
        ball = {"eps": eps, "norm": norm}
        for prop, broken in [
            (Local(**ball), local),
            (TopK(2, **ball), top2),
            (RelaxedTopK(2, **ball), relaxed),
            (TopK(2, **ball) | Local(**ball), relaxed),
            (TopK(2, **ball) & Local(**ball), top2),
        ]:
            net = GloRoNet(backbone, prop)
            result = attack(net, point)
            assert result.falsified.tolist() == [broken], (eps, prop)
            check_exactly(net, point, result)


def test_uniform_is_broken_where_pointwise_holds():
    """The design's witness: f(x) = (0, x - 0.1, -0.5): at each x' some k is unchanged."""
    backbone = nn.Sequential(linear([[0.0], [1.0], [0.0]], [0.0, -0.1, -0.5]))
    point = torch.zeros(1, 1, dtype=torch.float64)
    uniform = GloRoNet(backbone, RelaxedTopK(2, eps=1.0))
    pointwise = GloRoNet(backbone, RelaxedTopK(2, eps=1.0, quantifier="pointwise"))
    assert attack(uniform, point).falsified.tolist() == [True]
    assert attack(pointwise, point).falsified.tolist() == [False]


@norms
@pytest.mark.parametrize("place", [0, 2, 4, 6, 8, 10])
def test_no_certified_point_of_a_trained_network_is_broken(norm, place):
    eps = {"l2": 0.3, "linf": 0.1, "l1": 0.4}[norm]
    net = network(every_kind(4, eps=eps, norm=norm)[place])
    fit(net, blobs(), toy_settings(3), progress=False)
    inputs = blobs(seed=1)[0] + 0.8 * randn(8, 96, 4, dtype=torch.float32)
    certified = net.certify(inputs).certified
    result = attack(net, inputs, steps=10, restarts=2)
    assert 10 < int(certified.sum()) < 96
    assert not bool((result.falsified & certified).any())
    check_exactly(net, inputs, result)


def test_the_same_seed_finds_the_same_and_another_starts_elsewhere():
    net = GloRoNet(random_backbone(1), RelaxedTopK(2, eps=0.5))
    inputs = randn(4, 10, 4)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, other = (attack(net, inputs, steps=3, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), before)
    for name in ("falsified", "witnesses", "broken", "lowest"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert not torch.equal(first.witnesses, other.witnesses)


def test_attacking_changes_neither_weights_nor_mode_nor_gradients():
    net = GloRoNet(random_backbone(1), Local(eps=0.5))
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    inputs = randn(4, 5, 4).requires_grad_()
    attack(net, inputs, steps=3)
    assert net.training
    assert inputs.grad is None
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_prediction_that_rounding_may_have_confused_is_never_called_broken():
    """f_1 - f_0 = 2^-60 + relu(x_1) > 0 everywhere, but in float64 the two tie at x.

    The prediction is 1, and Local holds. Taking 0 for the prediction, as the tie suggests, any
    point with x_1 > 0 looks like a violation.
    """
    tiny = 2.0**-60
    backbone = nn.Sequential(
        linear([[1.0, 0.0], [0.0, 1.0]]),
        nn.ReLU(),
        linear([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], [0.0, tiny, -9.0]),
    )
    point = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    centre = exact_forward(backbone, exact(point))
    assert centre[1] - centre[0] == Fraction(tiny)
    for prop in [
        Local(eps=0.25),
        RelaxedTopK(1, eps=0.25, quantifier="pointwise"),
        Targeted([[0, 2], [1, 2], [2]], eps=0.25),
        Affinity(AffinitySets([[0, 2], [1, 2]], 3), eps=0.25),
        Local(eps=0.25) & TopK(2, eps=0.25),
    ]:
        grid = [Fraction(i, 32) for i in range(-5, 6)]
        ball = [exact_forward(backbone, (1 + a, b)) for a in grid for b in grid]
        assert holds(prop, centre, lambda _, ball=ball: ball)
        assert attack(GloRoNet(backbone, prop), point).falsified.tolist() == [False], prop


def test_a_point_whose_prediction_lies_in_no_affinity_set_is_broken_as_it_stands():
    with pytest.warns(UserWarning, match="no affinity set"):
        net = GloRoNet(
            nn.Sequential(linear(torch.eye(3))), Affinity(AffinitySets([[0, 1]], 3), eps=0.1)
        )
    points = torch.tensor([[0.0, 0.3, 1.0], [1.0, 0.2, 0.0]], dtype=torch.float64)
    assert attack(net, points).falsified.tolist() == [True, False]


@pytest.mark.parametrize("more", [{"steps": 0}, {"restarts": 0}])
def test_no_steps_or_restarts_are_refused(more):
    net = GloRoNet(random_backbone(1), Local(eps=0.5))
    with pytest.raises(InvalidInput, match=next(iter(more)) + "=0"):
        attack(net, randn(0, 2, 4), **more)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_points_that_are_not_finite_are_refused(bad):
    net = GloRoNet(random_backbone(1), Local(eps=0.5))
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        attack(net, torch.tensor([[0.0, 0.0, 0.0, bad]]))


# Squares of smaller numbers than these vanish.
sizes = st.one_of(st.just(0.0), st.floats(1e-100, 1e6), st.floats(-1e6, -1e-100))
offsets = st.lists(st.lists(sizes, min_size=3, max_size=3), min_size=1, max_size=4).map(
    lambda rows: torch.tensor(rows, dtype=torch.float64)
)


@norms
@given(values=offsets, radius=st.floats(1e-6, 1e3))
@settings(max_examples=60)
def test_projection_lands_in_the_ball_and_leaves_what_is_inside(norm, values, radius):
    def length(rows):
        return torch.linalg.vector_norm(rows, ORDER[norm], dim=1)

    projected = project(values, radius, norm)
    assert bool((length(projected) <= radius * (1 + 1e-12)).all())
    within = length(values) <= radius
    assert torch.allclose(projected[within], values[within], rtol=1e-12, atol=0)
    again = project(projected, radius, norm)
    assert torch.allclose(again, projected, rtol=1e-12, atol=0)


@norms
@given(values=offsets)
@settings(max_examples=60)
def test_the_steepest_direction_reaches_the_dual_norm(norm, values):
    direction = steepest(values, norm)
    dual = {"l2": 2.0, "linf": 1.0, "l1": math.inf}[norm]
    lengths = torch.linalg.vector_norm(direction, ORDER[norm], dim=1)
    assert bool((lengths <= 1 + 1e-12).all())
    expected = torch.linalg.vector_norm(values, dual, dim=1)
    assert torch.allclose((direction * values).sum(1), expected, rtol=1e-9, atol=1e-150)
