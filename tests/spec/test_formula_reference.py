"""The formula of every property against the paper's definitions, on exact logits with ties."""

from fractions import Fraction
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.errors import InvalidProperty
from relaxcert.spec import (
    Affinity,
    AffinitySets,
    AllOf,
    AnyOf,
    Ball,
    Beats,
    Local,
    Property,
    RelaxedTopK,
    Targeted,
    Throughout,
    TopK,
)
from relaxcert.spec import formula as formulas
from relaxcert.spec import prefix as prefixes
from relaxcert.spec.ranking import Ranking
from relaxcert.spec.reference import holds, top_set
from tests.strategies import Scene, affinity_sets, logits, points_around, scenes, targeted

CHECKED = settings(deadline=None, max_examples=100)
EPS = 1


def says(prop, centre, logits_in):
    """The verdict of the property's formula."""
    return formulas.holds_on(prop.formula(Ranking.of(centre)), logits_in)


def same_ball(points):
    """The same points for whatever ball."""
    return lambda _ball: points


@given(scenes())
@settings(deadline=None, max_examples=400)
def test_formula_is_the_reference(scene: Scene):
    expected = holds(scene.prop, scene.centre, scene.logits_in)
    assert says(scene.prop, scene.centre, scene.logits_in) == expected


@given(scenes())
@CHECKED
def test_what_holds_without_ties_holds_literally(scene: Scene):
    if holds(scene.prop, scene.centre, scene.logits_in):
        assert holds(scene.prop, scene.centre, scene.logits_in, ties="literal")


@given(scenes())
@CHECKED
def test_a_positive_lower_bound_proves_the_formula(scene: Scene):
    def link(ball, j, i):
        return min(point[j] - point[i] for point in scene.logits_in(ball))

    formula = scene.prop.formula(Ranking.of(scene.centre))
    if formulas.lower_bound(formula, link) > 0:
        assert formulas.holds_on(formula, scene.logits_in)


@st.composite
def worlds(draw):
    """Logits at x and around it, for laws that compare several properties on one ball."""
    count = draw(st.integers(4, 6))
    centre = draw(logits(count))
    return centre, draw(points_around(centre))


def both_ways(prop, world):
    """The verdict, on which formula and reference must agree."""
    centre, points = world
    verdict = holds(prop, centre, same_ball(points))
    assert says(prop, centre, same_ball(points)) == verdict
    return verdict


@given(worlds())
@CHECKED
def test_relaxed_top_k_is_a_disjunction_of_top_k(world):
    tops = TopK(1, eps=EPS) | TopK(2, eps=EPS) | TopK(3, eps=EPS)
    assert both_ways(RelaxedTopK(3, eps=EPS), world) == both_ways(tops, world)


@given(worlds())
@CHECKED
def test_local_is_top_1_and_implies_the_relaxations(world):
    local, *relaxed = [
        both_ways(prop, world)
        for prop in (Local(eps=EPS), RelaxedTopK(2, eps=EPS), RelaxedTopK(3, eps=EPS))
    ]
    assert local == both_ways(TopK(1, eps=EPS), world) == both_ways(RelaxedTopK(1, eps=EPS), world)
    assert local <= relaxed[0] <= relaxed[1]


@given(st.data(), worlds())
@CHECKED
def test_uniform_implies_pointwise(data, world):
    sets = data.draw(affinity_sets(len(world[0]), covered=False))
    for build in (
        lambda quantifier: RelaxedTopK(3, eps=EPS, quantifier=quantifier),
        lambda quantifier: Affinity(sets, eps=EPS, quantifier=quantifier),
    ):
        assert both_ways(build("uniform"), world) <= both_ways(build("pointwise"), world)


@given(st.data(), worlds())
@CHECKED
def test_affinity_implies_targeted_wherever_a_class_is_predicted(data, world):
    centre, _points = world
    order = data.draw(st.permutations(range(len(centre))))
    pairs = AffinitySets.adjacent(order)
    neighbours = Targeted.neighbours(order, eps=EPS)
    assert neighbours == Targeted.within(pairs, eps=EPS)
    for quantifier in ("uniform", "pointwise"):
        affinity = Affinity(pairs, eps=EPS, quantifier=quantifier)
        if len(top_set(centre, 1)) == 1:
            assert both_ways(affinity, world) <= both_ways(neighbours, world)


@given(st.data(), worlds())
@CHECKED
def test_connectives_and_monotonicity(data, world):
    count = len(world[0])
    narrow, wide = Local(eps=EPS), data.draw(targeted(count))
    assert both_ways(narrow & wide, world) == (both_ways(narrow, world) and both_ways(wide, world))
    assert both_ways(narrow | wide, world) == (both_ways(narrow, world) or both_ways(wide, world))
    few = data.draw(affinity_sets(count, covered=False))
    more = AffinitySets([*few.sets, *([label] for label in range(count))], count)
    assert both_ways(Affinity(few, eps=EPS), world) <= both_ways(Affinity(more, eps=EPS), world)


# The separations of the quantifier orders, on exact grids.


def grid(radius):
    steps = 40
    return [Fraction(radius) * step / steps for step in range(-steps, steps + 1)]


def verdicts(f, radius, prop):
    """The verdict on a grid of the ball around 0, on which formula and reference must agree."""
    return both_ways(prop, (f(Fraction(0)), [f(x) for x in grid(radius)]))


def crossing(x):
    return (Fraction(0), x - Fraction(1, 10), Fraction(-1, 2))


def slope(x):
    return (Fraction(2), 2 * x + 1, Fraction(0))


def wedge(x):
    rising, falling = max(x, Fraction(0)), max(-x, Fraction(0))
    return (Fraction(3), 2 + 2 * rising, 1 + 2 * falling, Fraction(0))


@pytest.mark.parametrize("f", [crossing, slope])
def test_pointwise_is_weaker_than_uniform(f):
    assert verdicts(f, 1, RelaxedTopK(2, eps=1, quantifier="pointwise"))
    assert not verdicts(f, 1, RelaxedTopK(2, eps=1))
    assert not verdicts(f, 1, TopK(1, eps=1) | TopK(2, eps=1))


def test_separation_with_affinity_sets():
    def affinity(sets, quantifier):
        return Affinity(AffinitySets(sets, 3), eps=1, quantifier=quantifier)

    assert verdicts(slope, 1, affinity([[0, 1], [2]], "pointwise"))
    assert not verdicts(slope, 1, affinity([[0, 1], [2]], "uniform"))
    assert not verdicts(slope, 1, affinity([[0], [1, 2]], "pointwise"))
    assert not verdicts(slope, 1, affinity([[0], [1, 2]], "uniform"))


@pytest.mark.parametrize(("radius", "pointwise"), [("1/2", True), ("3/4", True), ("1", False)])
def test_separation_by_radius(radius, pointwise):
    radius = Fraction(radius)
    assert verdicts(wedge, radius, RelaxedTopK(2, eps=1, quantifier="pointwise")) == pointwise
    assert not verdicts(wedge, radius, TopK(1, eps=1))
    assert not verdicts(wedge, radius, TopK(2, eps=1))
    assert not verdicts(wedge, radius, RelaxedTopK(2, eps=1))
    assert verdicts(wedge, radius, TopK(3, eps=1))


# Ties.


def test_a_tie_across_the_boundary_certifies_nothing():
    tied, moved = (Fraction(0),) * 3, (Fraction(-1, 4), Fraction(0), Fraction(0))
    for prop in (
        Local(eps=1),
        RelaxedTopK(2, eps=1),
        RelaxedTopK(2, eps=1, quantifier="pointwise"),
    ):
        assert not both_ways(prop, (tied, [tied, moved]))
        assert not both_ways(prop, (tied, [tied]))
        assert holds(prop, tied, same_ball([tied]), ties="literal")
    assert not holds(Local(eps=1), tied, same_ball([moved]), ties="literal")


def test_a_tie_elsewhere_does_no_harm():
    inside, outside = (
        (Fraction(2), Fraction(2), Fraction(0)),
        (Fraction(2), Fraction(0), Fraction(0)),
    )
    assert both_ways(TopK(2, eps=1), (inside, [inside]))
    assert both_ways(TopK(1, eps=1), (outside, [outside]))
    assert not both_ways(TopK(1, eps=1), (inside, [inside]))
    assert not both_ways(TopK(2, eps=1), (outside, [outside]))


def test_targeted_needs_one_prediction_at_the_point():
    tied, clear = (Fraction(1), Fraction(1), Fraction(0)), (Fraction(2), Fraction(1), Fraction(0))
    safe = Targeted([[0, 1], [0, 1], [2]], eps=1)
    assert not both_ways(safe, (tied, [tied]))
    assert both_ways(safe, (clear, [clear, tied]))
    assert not both_ways(safe, (clear, [(Fraction(1), Fraction(0), Fraction(1))]))


# Small print of the formula language.


def test_misplaced_atoms_are_refused():
    ball = Ball.of(1)
    nested = Throughout(ball, Throughout(ball, Beats(0, 1)))
    values = (Fraction(1), Fraction(0))
    for use in (
        lambda: formulas.holds_on(Beats(0, 1), same_ball([values])),
        lambda: formulas.holds_on(nested, same_ball([values])),
        lambda: formulas.lower_bound(Beats(0, 1), lambda *_: 0),
        lambda: formulas.lower_bound(nested, lambda *_: 0),
    ):
        with pytest.raises(InvalidProperty, match="Throughout"):
            use()


def test_empty_formulas():
    assert formulas.holds_on(AllOf(()), same_ball([]))
    assert not formulas.holds_on(AnyOf(()), same_ball([]))
    assert formulas.lower_bound(AllOf(()), lambda *_: 0) == inf
    assert formulas.lower_bound(AnyOf(()), lambda *_: 0) == -inf
    assert formulas.lower_bound(Throughout(Ball.of(1), AnyOf(())), lambda *_: 0) == -inf


def test_own_properties():
    class Bottom(prefixes.PrefixProperty):
        """A prefix property that exists only here."""

        def __init__(self):
            self.ball = Ball.of(1)

        def lengths(self):
            return (2,)

    class Odd(Property):
        balls = ()

        def with_eps(self, _eps):
            return self

        def check(self, num_classes):
            pass

        def formula(self, _ranking):
            return AnyOf(())

    world = ((Fraction(3), Fraction(2), Fraction(0)), [(Fraction(2), Fraction(3), Fraction(0))])
    assert both_ways(Bottom(), world) == both_ways(TopK(2, eps=1), world) is True
    with pytest.raises(InvalidProperty, match="Odd has no reference definition"):
        holds(Odd(), world[0], same_ball(world[1]))
