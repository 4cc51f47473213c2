"""The verified spectral norm never falls below the exact one."""

from __future__ import annotations

import math
from types import SimpleNamespace

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.lipschitz import spectral, verified_spectral_norm
from tests.lipschitz.exact import at_least_spectral_norm, positive_semidefinite
from tests.networks import randn

TINY, HUGE, SUBNORMAL = 1e-300, 1e300, 5e-324


def orthogonal(seed: int, rows: int, columns: int) -> torch.Tensor:
    return torch.linalg.qr(randn(seed, max(rows, columns), min(rows, columns)))[0]


def rank_one(seed: int, rows: int, columns: int) -> torch.Tensor:
    return torch.outer(randn(seed, rows), randn(seed + 1, columns))


def with_spectrum(seed: int, values: list[float]) -> torch.Tensor:
    n = len(values)
    return (
        orthogonal(seed, n, n)
        @ torch.diag(torch.tensor(values, dtype=torch.float64))
        @ orthogonal(seed + 1, n, n)
    )


ORDINARY = {
    "gaussian": randn(1, 5, 5),
    "tall": randn(2, 9, 3),
    "wide": randn(3, 3, 9),
    "column": randn(4, 7, 1),
    "row": randn(5, 1, 7),
    "one by one": torch.tensor([[-0.3]], dtype=torch.float64),
    "spiked": with_spectrum(6, [10.0, 1.0, 1.0, 1.0, 1.0]),
    "clustered": with_spectrum(8, [1.0, 1 - 1e-12, 1 - 1e-13, 1 - 1e-15, 0.5]),
    "orthogonal": orthogonal(10, 6, 6),
    "identity": torch.eye(6, dtype=torch.float64),
    "rank one": rank_one(11, 5, 6),
    "ones": torch.ones(4, 5, dtype=torch.float64),
    "nilpotent": torch.tensor([[0.0, 3.0], [0.0, 0.0]], dtype=torch.float64),
    "graded": torch.diag(torch.tensor([1.0, 1e-8, 1e-100, 1e-300, 1e-323], dtype=torch.float64)),
}
EXTREME = {
    "tiny": randn(20, 4, 4) * TINY,
    "subnormal": torch.full((3, 3), SUBNORMAL, dtype=torch.float64),
    "subnormal mixed": torch.tensor(
        [[SUBNORMAL, -3 * SUBNORMAL], [7e-320, 0.0]], dtype=torch.float64
    ),
    "huge": randn(21, 4, 4) * HUGE,
    "tiny and huge": torch.tensor([[1e300, 1e-300], [1e-300, 1e300]], dtype=torch.float64),
    "largest": torch.full((2, 2), 1.7e308, dtype=torch.float64),
    "smallest square": torch.tensor([[SUBNORMAL]], dtype=torch.float64),
}


@pytest.mark.parametrize("name", [*ORDINARY, *EXTREME])
def test_bound_is_at_least_the_norm_in_exact_arithmetic(name):
    matrix = {**ORDINARY, **EXTREME}[name]
    assert at_least_spectral_norm(verified_spectral_norm(matrix), matrix)


@pytest.mark.parametrize("name", list(ORDINARY))
def test_bound_is_within_1e_8_of_the_norm(name):
    matrix = ORDINARY[name]
    with mpmath.workdps(60):
        truth = max(mpmath.svd_r(mpmath.matrix(matrix.tolist()), compute_uv=False))
        assert (
            truth <= mpmath.mpf(verified_spectral_norm(matrix)) <= truth * (1 + mpmath.mpf("1e-8"))
        )


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-500, 2.0**500, 2.0**1000])
def test_powers_of_two_scale_the_bound_and_nothing_else(scale):
    matrix = randn(30, 4, 6)
    assert verified_spectral_norm(matrix * scale) == verified_spectral_norm(matrix) * scale


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 40)])
def test_zero_matrix_gives_exactly_zero(shape):
    assert verified_spectral_norm(torch.zeros(shape, dtype=torch.float64)) == 0.0


@pytest.mark.parametrize("name", list(EXTREME))
def test_no_nonzero_matrix_gives_zero_or_nan(name):
    assert verified_spectral_norm(EXTREME[name]) > 0.0


def test_norm_beyond_float64_gives_infinity():
    assert verified_spectral_norm(torch.full((3, 3), 1.7e308, dtype=torch.float64)) == math.inf


@pytest.mark.parametrize("size", [16, 64, 200])
def test_larger_matrices_stay_above_a_high_precision_rayleigh_quotient(size):
    """The Rayleigh quotient of any vector is a lower bound, here by exact integer arithmetic."""
    matrix = randn(size, size, size)
    vector = torch.linalg.svd(matrix)[2][0]
    with mpmath.workdps(40):
        image = [mpmath.fdot(zip(row, vector.tolist(), strict=True)) for row in matrix.tolist()]
        below = mpmath.norm(image) / mpmath.norm(vector.tolist())
        assert below <= verified_spectral_norm(matrix) <= below * (1 + mpmath.mpf("1e-8"))


@pytest.mark.parametrize("name", list(ORDINARY))
def test_failing_cholesky_still_gives_an_upper_bound(name, monkeypatch):
    def failing(matrix: torch.Tensor) -> SimpleNamespace:
        return torch.full_like(matrix, math.nan), torch.tensor(1)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", failing)
    bound = verified_spectral_norm(ORDINARY[name])
    assert math.isfinite(bound)
    assert at_least_spectral_norm(bound, ORDINARY[name])


@pytest.mark.parametrize("name", ["gaussian", "spiked", "clustered", "orthogonal", "tall"])
@pytest.mark.parametrize("spoil", ["scaled", "noise", "zero"])
def test_a_wrong_factor_costs_tightness_only(name, spoil, monkeypatch):
    """L L^T is positive semi-definite whatever L is: nothing is trusted but products."""
    original = torch.linalg.cholesky_ex

    def wrong(matrix: torch.Tensor):
        factor, failed = original(matrix)
        match spoil:
            case "scaled":
                factor = factor * 1.01
            case "noise":
                factor = factor + 1e-3 * randn(3, *factor.shape)
            case _:
                factor = torch.zeros_like(factor)
        return factor, failed

    monkeypatch.setattr(torch.linalg, "cholesky_ex", wrong)
    assert at_least_spectral_norm(verified_spectral_norm(ORDINARY[name]), ORDINARY[name])


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.9999, 1.5, -1.0])
def test_a_wrong_eigenvalue_guess_costs_tightness_only(factor, monkeypatch):
    original = spectral._largest_eigenvalue
    monkeypatch.setattr(spectral, "_largest_eigenvalue", lambda gram: factor * original(gram))
    matrix = randn(40, 5, 4)
    assert at_least_spectral_norm(verified_spectral_norm(matrix), matrix)


def test_an_eigenvalue_routine_that_gives_up_costs_tightness_only(monkeypatch):
    def gives_up(matrix: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("did not converge")

    monkeypatch.setattr(torch.linalg, "eigvalsh", gives_up)
    matrix = randn(41, 5, 4)
    assert at_least_spectral_norm(verified_spectral_norm(matrix), matrix)


entries = st.one_of(
    st.floats(-4, 4, allow_nan=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 1.0, SUBNORMAL, -TINY, 1e-160, -1e150]),
)


@st.composite
def matrices(draw):
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    values = draw(st.lists(entries, min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(values, dtype=torch.float64).reshape(rows, columns)


@given(matrices())
@settings(max_examples=150)
def test_bound_is_at_least_the_norm_of_any_matrix(matrix):
    bound = verified_spectral_norm(matrix)
    assert at_least_spectral_norm(bound, matrix)
    assert (bound == 0.0) == (not bool(matrix.any()))


@given(matrices())
@settings(max_examples=50)
def test_transposing_keeps_soundness(matrix):
    assert at_least_spectral_norm(verified_spectral_norm(matrix.mT), matrix)


def test_the_exact_check_itself_rejects_a_bound_that_is_one_part_in_1e12_low():
    matrix = ORDINARY["gaussian"]
    low = float(torch.linalg.svdvals(matrix)[0]) * (1 - 1e-12)
    assert not at_least_spectral_norm(low, matrix)
    assert not positive_semidefinite([[1, 2], [2, 1]])
    assert positive_semidefinite([[1, 1], [1, 1]])
