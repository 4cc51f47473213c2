"""The encounter table against its definition: Bellman's equation, state by state."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from relaxcert.data.hcas import hcas, load_table, model
from relaxcert.data.hcas.interpolation import interpolated
from relaxcert.data.hcas.solve import TOLERANCE, solve
from relaxcert.errors import DataError, InvalidInput

ANGLES = np.linspace(-np.pi, np.pi, 13)
RANGES = model.RANGES[::3]
SPEEDS = (200.0, 150.0)


@pytest.fixture(scope="module")
def values():
    return solve(RANGES, ANGLES, *SPEEDS).values.astype(float)


def backup(values, state, previous, advisory):
    """R + E[max Q], one outcome at a time, as the decision process is written down."""
    rho, theta, psi = state
    own, intruder = SPEEDS
    distance, time = model.closest_approach(*state, own, intruder)
    reward = model.proximity(rho)
    if advisory == model.COC:
        reward += model.missing_alert(distance, time, previous)
    else:
        reward += model.alert(advisory, previous)
    best = values[advisory].max(0)[..., None]  # the state after this advisory
    x = rho * math.cos(theta) + intruder * math.cos(psi) - own
    y = rho * math.sin(theta) + intruder * math.sin(psi)
    for chance_own, own_turn in zip(*model.turns(previous), strict=True):
        for chance_intruder, intruder_turn in zip(*model.turns(model.COC), strict=True):
            bearing = model.wrapped(np.array(math.atan2(y, x) - own_turn))
            heading = model.wrapped(np.array(psi + intruder_turn - own_turn))
            after = np.array([[math.hypot(x, y), float(bearing), float(heading)]])
            expected = interpolated((RANGES, ANGLES, ANGLES), best, after)[0, 0]
            reward += chance_own * chance_intruder * expected
    return float(reward)


def bellman_errors(values, seed=0, states=12):
    generator = np.random.default_rng(seed)
    shape = values.shape[2:]
    errors = []
    for place in zip(*(generator.integers(size, size=states) for size in shape), strict=True):
        state = (RANGES[place[0]], ANGLES[place[1]], ANGLES[place[2]])
        for previous in range(5):
            for advisory in range(5):
                direct = backup(values, state, previous, advisory)
                errors.append(abs(values[(previous, advisory, *place)] - direct))
    return np.array(errors)


def test_the_solution_solves_bellmans_equation_for_every_advisory(values):
    assert bellman_errors(values).max() < 2 * TOLERANCE


def test_a_table_with_left_and_right_confused_does_not(values):
    swapped = values.copy()
    swapped[[model.WL, model.WR]] = swapped[[model.WR, model.WL]]
    assert bellman_errors(swapped).max() > 100 * TOLERANCE


def test_left_is_right_in_the_mirror(values):
    mirrored = values[list(model.MIRRORED)][:, list(model.MIRRORED)][..., ::-1, ::-1]
    np.testing.assert_allclose(mirrored, values, atol=1e-3)


def test_it_says_so_when_it_does_not_converge(monkeypatch):
    monkeypatch.setattr("relaxcert.data.hcas.solve.SWEEPS", 3)
    with pytest.raises(DataError, match="did not converge"):
        solve(RANGES, ANGLES, *SPEEDS)


@pytest.mark.parametrize(
    ("advisory", "previous", "reward"),
    [
        (model.WL, model.COC, -5e-4 - 1e-3),  # any alert is stronger than none
        (model.SL, model.COC, -5e-4 - 2e-3 - 1e-3),
        (model.WL, model.WL, -5e-5),
        (model.SL, model.WL, -5e-5 - 2e-4 - 1e-3),
        (model.WL, model.SL, -5e-5 - 2e-4),
        (model.WR, model.SL, -5e-5 - 5e-2),
        (model.SR, model.WL, -5e-5 - 2e-4 - 5e-2),
    ],
)
def test_alerts_cost_what_the_paper_says(advisory, previous, reward):
    assert model.alert(advisory, previous) == pytest.approx(reward, rel=1e-12)


def test_closest_approach_of_a_head_on_encounter():
    ahead = (np.array([4000.0]), np.array([0.0]), np.array([np.pi]))
    distance, time = model.closest_approach(*ahead, 200.0, 200.0)
    assert time[0] == pytest.approx(10.0)
    assert distance[0] == pytest.approx(0.0, abs=1e-6)
    same = (np.array([4000.0]), np.array([0.0]), np.array([0.0]))
    distance, time = model.closest_approach(*same, 200.0, 200.0)
    assert (distance[0], time[0]) == (4000.0, 0.0)


@given(st.integers(0, 1000), st.integers(1, 4))
def test_interpolation_agrees_with_scipys(seed, inputs):
    generator = np.random.default_rng(seed)
    axes = [np.sort(generator.uniform(-1, 1, generator.integers(2, 5))) for _ in range(inputs)]
    table = generator.normal(size=(*map(len, axes), 3))
    points = generator.uniform(-1, 1, (20, inputs))
    clamped = np.stack([np.clip(points[:, i], a[0], a[-1]) for i, a in enumerate(axes)], axis=1)
    expected = RegularGridInterpolator(axes, table)(clamped)
    np.testing.assert_allclose(interpolated(axes, table, points), expected, atol=1e-9)


def test_parts_are_balanced_distinct_and_labelled_by_the_table(tmp_path):
    settings = {"speeds": 1, "angles": 13, "sizes": (100, 50, 60), "folder": tmp_path}
    parts = hcas(**settings, seed=3)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 100,
        "validation": 50,
        "test": 60,
        "uniform": 60,
    }
    for name in ("train", "validation", "test"):
        assert len(set(parts[name].labels.bincount(minlength=5).tolist())) == 1
    every = torch.cat([part.inputs for part in parts.values()])
    assert len(every.unique(dim=0)) == len(every)
    assert float(every.abs().max()) <= 0.5
    table = load_table(speeds=1, angles=13, folder=tmp_path)
    for part in parts.values():
        assert (table.advisories(part.inputs.numpy()) == part.labels.numpy()).all()
    again = hcas(**settings, seed=3)
    assert torch.equal(again["train"].inputs, parts["train"].inputs)
    other = hcas(**settings, seed=4)
    assert not torch.equal(other["train"].inputs, parts["train"].inputs)


def test_the_five_input_table_contains_the_tables_of_its_pairs_of_speeds(tmp_path):
    table = load_table(speeds=3, angles=9, folder=tmp_path)
    assert table.values.shape == (5, 32, 9, 9, 3, 3, 5)
    single = solve(model.RANGES, np.linspace(-np.pi, np.pi, 9), 250.0, 400.0).values
    np.testing.assert_array_equal(np.moveaxis(table.values[..., 1, 2, :], -1, 1), single)
    # v_own = 250 is the middle of the axis, v_int = 400 its end.
    point = np.array([[0.1, 0.2, -0.3, 0.0, 0.5]])
    physical = point[:, :3] * table.width[:3] + table.middle[:3]
    axes = table.axes[:3]
    expected = interpolated(axes, np.moveaxis(single[0], 0, -1), physical)
    np.testing.assert_allclose(table.scores(point), expected, rtol=1e-6)


def test_arguments_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="speeds=2"):
        load_table(speeds=2, folder=tmp_path)
    with pytest.raises(InvalidInput, match="angles=4"):
        load_table(angles=4, folder=tmp_path)
    table = load_table(angles=9, folder=tmp_path)
    with pytest.raises(InvalidInput, match=r"expected \(points, 3\)"):
        table.scores(np.zeros((2, 5)))
