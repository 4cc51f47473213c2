"""The schedules against the formulas of Appendix E: ends, the half, and in between."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaxcert.training.schedules import AfterHalf, Constant, Half, Linear, LogHalf, OneCycle

values = st.floats(1e-6, 10.0)
progress = st.floats(0.0, 1.0)
close = {"rel": 1e-9, "abs": 1e-12}


@given(values, values, progress)
def test_log_half_is_the_papers_formula(l0, l1, t):
    epochs, e = 200, 200 * t
    if e < epochs / 2:
        grown = math.exp(l0) + (math.exp(l1) - math.exp(l0)) * e / (epochs / 2)
        expected = math.log(grown)
    else:
        expected = l1
    assert LogHalf(start=l0, end=l1).at(t) == pytest.approx(expected, **close)


@given(values, values, progress)
def test_linear_and_half_are_the_papers_formulas(l0, l1, t):
    assert Linear(start=l0, end=l1).at(t) == pytest.approx(l0 + (l1 - l0) * t, **close)
    expected = l0 + (l1 - l0) * t / 0.5 if t < 0.5 else l1
    assert Half(start=l0, end=l1).at(t) == pytest.approx(expected, **close)


@given(values, values, progress)
def test_after_half_is_the_papers_formula(lr0, lr1, t):
    expected = lr0 if t < 0.5 else lr0 * (lr1 / lr0) ** ((t - 0.5) / 0.5)
    assert AfterHalf(start=lr0, end=lr1).at(t) == pytest.approx(expected, **close)


@given(values, progress)
def test_a_constant_is_constant(value, t):
    assert Constant(value=value).at(t) == value


@given(values, values)
def test_ends_are_met(start, end):
    for schedule in (
        Linear(start=start, end=end),
        Half(start=start, end=end),
        LogHalf(start=start, end=end),
        AfterHalf(start=start, end=end),
    ):
        assert schedule.at(0.0) == pytest.approx(start, **close)
        assert schedule.at(1.0) == pytest.approx(end, **close)


@given(values, values, st.floats(1e-9, 1e-6))
def test_nothing_jumps_at_the_half(start, end, step):
    for schedule in (
        Half(start=start, end=end),
        LogHalf(start=start, end=end),
        AfterHalf(start=start, end=end),
    ):
        before, after = schedule.at(0.5 - step), schedule.at(0.5 + step)
        # Slopes: 2 |end - start|, and for the logarithm and the power at most this.
        slope = 2 * abs(end - start) * math.exp(abs(end - start))
        slope += 2 * start * abs(math.log(end / start))
        assert abs(before - after) <= 2 * step * slope + 1e-12


@given(values, st.floats(0.01, 0.99))
def test_one_cycle_starts_low_peaks_once_and_ends_near_0(peak, warm_up):
    schedule = OneCycle(peak=peak, warm_up=warm_up)
    assert schedule.at(0.0) == pytest.approx(peak / 25, rel=1e-9)
    assert schedule.at(warm_up) == pytest.approx(peak, rel=1e-9)
    assert schedule.at(1.0) == pytest.approx(peak / 2.5e5, rel=1e-6)
    rising = [schedule.at(warm_up * step / 20) for step in range(21)]
    falling = [schedule.at(warm_up + (1 - warm_up) * step / 20) for step in range(21)]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


def test_table_3s_schedules_at_hand_worked_points():
    weight = LogHalf(start=0.01, end=1.2)
    # A quarter in: ln((e^0.01 + e^1.2) / 2) = ln((1.0100502 + 3.3201169) / 2)
    assert weight.at(0.25) == pytest.approx(0.772459, abs=1e-6)
    rate = AfterHalf(start=1e-3, end=1e-6)
    assert rate.at(0.75) == pytest.approx(10**-4.5, rel=1e-9)
    assert Half(start=1.0, end=10.0).at(0.25) == pytest.approx(5.5)
    assert Linear(start=1.0, end=1.2).at(0.5) == pytest.approx(1.1)
