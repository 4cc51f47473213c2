"""Rows of many classes, a Gram expansion with bounded rounding: never below the exact distance."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.lipschitz import pairs
from relaxcert.lipschitz.pairs import VerifiedRows

entries = st.floats(-4.0, 4.0, allow_subnormal=False) | st.sampled_from([0.0, 1e-160, 1e-30, 1e8])


@st.composite
def weights(draw, rows: int = 4):
    """Rows that differ in the last bits, coincide, or have nothing to do with each other."""
    features = draw(st.integers(1, 6))
    row = st.lists(entries, min_size=features, max_size=features)
    first = torch.tensor(draw(row), dtype=torch.float64)
    made = [first]
    for _ in range(rows - 1):
        way = draw(st.sampled_from(["near", "same", "free", "opposite"]))
        if way == "free":
            made.append(torch.tensor(draw(row), dtype=torch.float64))
        else:
            near = first * (1.0 + draw(st.sampled_from([2.0**-52, 2.0**-40, 2.0**-26])))
            made.append({"near": near, "same": first, "opposite": -first}[way])
    scale = draw(st.sampled_from([1.0, 2.0**-400, 2.0**300]))
    return torch.stack(made) * scale


def check(weight: torch.Tensor) -> None:
    classes = len(weight)
    found = VerifiedRows(weight, "l2").rows(torch.arange(classes))
    exact = [[Fraction(v) for v in row] for row in weight.tolist()]
    longest = max(sum(abs(v) for v in row) for row in exact)
    for j in range(classes):
        for i in range(classes):
            squared = sum((a - b) ** 2 for a, b in zip(exact[j], exact[i], strict=True))
            bound = Fraction(found[j, i].item())
            assert bound * bound >= squared
            # How loose it is: by at most 1e-6 of the longest row.
            nearer = bound - longest / 10**6
            assert nearer <= 0 or nearer**2 <= squared * (1 + Fraction(1, 10**9))


@given(weights())
@settings(max_examples=120, deadline=None)
def test_rows_are_never_below_the_exact_distances_and_little_above(weight):
    if bool((weight != 0.0).any()):
        check(weight)


def test_a_gram_expansion_without_its_rounding_is_found(monkeypatch):
    """The mutation: cancellation makes 0 of the distance of two rows that are nearly equal."""
    monkeypatch.setattr(pairs, "gamma", lambda operations, unit: 0.0)
    first = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    with pytest.raises(AssertionError):
        check(torch.stack([first, first * (1.0 + 2.0**-40), -first]))
