"""Bounds of dense matrices and of row differences, against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.errors import InvalidWeights
from relaxcert.lipschitz import matrix as matrix_module
from relaxcert.lipschitz.matrix import (
    ORDER,
    absolute_norm,
    checked_matrix,
    induced_norm,
    pair_distances,
    row_norms,
    vector_norm_up,
)
from tests.lipschitz.exact import at_least_spectral_norm, exact, exact_vector, norm_within
from tests.lipschitz.test_spectral import EXTREME, ORDINARY, matrices
from tests.networks import NORMS, randn

DUAL = {"l2": "l2", "linf": "l1", "l1": "linf"}
EVERY = {**ORDINARY, **EXTREME}


def holds_for_every_column_or_row(weight: torch.Tensor, norm: str, bound: float) -> bool:
    rows = exact(weight)
    vectors = rows if norm == "linf" else [list(c) for c in zip(*rows, strict=True)]
    return all(norm_within(vector, "l1", bound) for vector in vectors)


@pytest.mark.parametrize("name", list(EVERY))
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_induced_norms_are_at_least_the_exact_sums(name, norm):
    assert holds_for_every_column_or_row(EVERY[name], norm, induced_norm(EVERY[name], norm))


@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.parametrize("name", list(ORDINARY))
def test_induced_norms_are_tight(name, norm):
    weight = ORDINARY[name]
    assert not holds_for_every_column_or_row(weight, norm, induced_norm(weight, norm) * (1 - 1e-13))


@given(matrices(), st.sampled_from(NORMS))
@settings(max_examples=150)
def test_absolute_norm_bounds_the_norm_of_the_absolute_matrix(weight, norm):
    bound = absolute_norm(weight, norm)
    if norm == "l2":
        assert at_least_spectral_norm(bound, weight.abs())
    else:
        assert holds_for_every_column_or_row(weight, norm, bound)


@given(matrices(), st.sampled_from(NORMS))
@settings(max_examples=100)
def test_vector_norm_is_at_least_the_exact_one_and_zero_only_for_zero(values, norm):
    bound = vector_norm_up(values, ORDER[norm])
    assert norm_within(exact_vector(values), norm, bound)
    assert (bound == 0.0) == (not bool(values.any()))


def check_pairs(weight: torch.Tensor, norm: str, pairs: torch.Tensor) -> None:
    rows = exact(weight)
    assert torch.equal(pairs, pairs.mT)
    for j, winner in enumerate(rows):
        for i, loser in enumerate(rows):
            bound = float(pairs[j, i])
            difference = [a - b for a, b in zip(winner, loser, strict=True)]
            assert norm_within(difference, DUAL[norm], bound)
            assert (bound == 0.0) == (winner == loser)


@given(matrices(), st.sampled_from(NORMS))
@settings(max_examples=150)
def test_pair_distances_are_at_least_the_dual_norms_and_zero_only_for_equal_rows(weight, norm):
    check_pairs(weight, norm, pair_distances(weight, norm))


@pytest.mark.parametrize("norm", NORMS)
def test_pair_distances_are_tight_to_1e_12(norm):
    weight = randn(50, 6, 7)
    for j, winner in enumerate(exact(weight)):
        for i, loser in enumerate(exact(weight)):
            bound = float(pair_distances(weight, norm)[j, i]) * (1 - 1e-12)
            difference = [a - b for a, b in zip(winner, loser, strict=True)]
            assert i == j or not norm_within(difference, DUAL[norm], bound)


@pytest.mark.parametrize("norm", NORMS)
def test_rows_that_differ_by_1e_200_are_not_at_distance_zero(norm):
    weight = torch.tensor([[1.0, 0.0], [1.0, 1e-200], [1.0, 1e-200]], dtype=torch.float64)
    pairs = pair_distances(torch.tensor([[1.0, 0.0], [1.0, 1e-200]], dtype=torch.float64), norm)
    assert float(pairs[0, 1]) >= 1e-200
    check_pairs(weight, norm, pair_distances(weight, norm))
    tiny = weight * torch.tensor(
        [1e300, 1e-100], dtype=torch.float64
    )  # 1e-300 vanishes beside 1e300
    check_pairs(tiny, norm, pair_distances(tiny, norm))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("chunk", [1, 10, 36, 100])
def test_chunks_change_no_distance(norm, chunk, monkeypatch):
    weight = randn(51, 7, 5)
    whole = pair_distances(weight, norm)
    monkeypatch.setattr(matrix_module, "_CHUNK", chunk)
    assert torch.equal(pair_distances(weight, norm), whole)


def test_cancelling_rows_keep_their_distance():
    """The Gram expansion |a|^2 + |b|^2 - 2ab would give 0 here."""
    weight = torch.tensor([[1e8, 1.0], [1e8, 1.0 + 2.0**-40]], dtype=torch.float64)
    assert Fraction(float(pair_distances(weight, "l2")[0, 1])) >= Fraction(2) ** -40


@given(matrices())
@settings(max_examples=80)
def test_row_norms_are_at_least_the_l2_norms(weight):
    for row, bound in zip(exact(weight), row_norms(weight).tolist(), strict=True):
        assert norm_within(row, "l2", bound)
        assert (bound == 0.0) == (not any(row))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(bad):
    with pytest.raises(InvalidWeights, match="that weight holds 1 NaN or infinite"):
        checked_matrix(torch.tensor([[1.0, bad]]), "that weight")


def test_empty_weights_are_refused_by_name():
    with pytest.raises(InvalidWeights, match=r"that weight has shape \(0, 3\)"):
        checked_matrix(torch.zeros(0, 3), "that weight")
