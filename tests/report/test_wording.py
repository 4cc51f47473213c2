"""Properties in words: every kind is told apart, and the formula is that of the definition."""

# ruff: noqa: RUF001 - formulas are written with the signs of mathematics
from __future__ import annotations

import json

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from relaxcert.errors import DataError
from relaxcert.report.curves import eps_grid, shares_at
from relaxcert.report.html import formula
from relaxcert.report.wording import affinity_sets, eps_of, level_of, norm_of, statement
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, TopK, canonical_json
from tests.networks import every_kind

NAMES = ["a", "b", "c", "d"]


def plain(prop):
    return json.loads(canonical_json(prop))


def test_every_kind_has_words_of_its_own():
    kinds = every_kind(4, "1/10")
    told = {
        (s.title, s.words, s.formula, s.sets) for s in (statement(plain(p), NAMES) for p in kinds)
    }
    assert len(told) == len(set(kinds))


def test_local_and_its_ball():
    told = statement(plain(Local(eps="36/255", norm="linf")), NAMES)
    assert told.formula == "∀ x′ ∈ B:  F(x′) = F(x)"
    assert told.ball == "B = { x′ : ‖x′ − x‖_{∞} ≤ 12/85 }"


def test_the_order_of_quantifiers_is_told():
    uniform = statement(plain(RelaxedTopK(2, eps="0.1")), NAMES)
    pointwise = statement(plain(RelaxedTopK(2, eps="0.1", quantifier="pointwise")), NAMES)
    assert uniform.formula.index("∃") < uniform.formula.index("∀")
    assert pointwise.formula.index("∀") < pointwise.formula.index("∃")
    assert "one k serves the whole ball" in uniform.words
    assert "its own k" in pointwise.words


def test_sets_are_told_by_name():
    sets = AffinitySets([[0, 2], [1], [3]], 4)
    told = statement(plain(Affinity(sets, eps="0.1")), NAMES)
    assert told.sets == (("a", "c"), ("b",), ("d",))
    assert affinity_sets(plain(Affinity(sets, eps="0.1") | Local(eps="0.1"))) == [[0, 2], [1], [3]]
    assert affinity_sets(plain(Local(eps="0.1"))) is None


def test_compositions_are_told_by_their_parts():
    both = plain(Local(eps="0.1") & TopK(2, eps="0.2", norm="linf"))
    told = statement(both, NAMES)
    assert {part.title for part in told.parts} == {"Local robustness", "Top-2 robustness"}
    assert told.words.startswith("All of these 2 statements hold")
    assert (eps_of(both), norm_of(both)) == (None, None)


WRONG = [
    {},
    {"kind": "local"},
    {"kind": "top-k", "eps": "1/0", "norm": "l2"},
    {"kind": "affinity", "eps": "1", "norm": "l7", "sets": []},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_property_is_refused(wrong):
    with pytest.raises(DataError, match="canonical form"):
        statement(wrong, NAMES)


def test_levels_say_what_they_assume():
    real, deployed = level_of("R"), level_of("D(float32)")
    assert "real-arithmetic" in real.claim
    assert "computed in float32" in deployed.claim
    assert set(real.assumptions) < set(deployed.assumptions)


def test_formulas_become_html_and_nothing_else_does():
    assert formula("F^{k}(x) ≤ ‖x‖_{2}") == "F<sup>k</sup>(x) ≤ ‖x‖<sub>2</sub>"
    assert formula("<b>^{<i>}") == "&lt;b&gt;<sup>&lt;i&gt;</sup>"


radii = st.lists(st.floats(0, 10) | st.sampled_from([float("inf"), float("nan")]), min_size=1)


@given(radii, st.lists(st.floats(1e-6, 12), min_size=1))
def test_shares_are_counted_as_one_would_by_hand(values, grid):
    found = shares_at(torch.tensor(values, dtype=torch.float64), torch.tensor(grid).double())
    at = torch.tensor(grid).double().tolist()
    assert found.tolist() == [sum(v >= eps for v in values) / len(values) for eps in at]


@given(radii, st.none() | st.floats(1e-3, 3))
@example([5e-324], None)
def test_grids_ascend_from_above_zero_and_hold_eps(values, eps):
    grid = eps_grid(torch.tensor(values, dtype=torch.float64), eps)
    assert bool((grid[1:] >= grid[:-1]).all())
    assert float(grid[0]) > 0
    assert eps is None or eps in grid.tolist()
