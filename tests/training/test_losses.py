"""The losses against their formulas, written out literally."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.training import certified_set, cross_entropy, trades
from tests.networks import randn

temperatures = st.floats(0.05, 4.0)
weights = st.floats(0.0, 10.0)
seeds = st.integers(0, 10**6)


def literal_softmax(row: list[mpmath.mpf]) -> list[mpmath.mpf]:
    powers = [mpmath.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def scaled(row: list[float], temperature: float) -> list[mpmath.mpf]:
    return [mpmath.mpf(value) / mpmath.mpf(temperature) for value in row]


@mpmath.workdps(60)
def literal_cross_entropy(outputs: Tensor, labels: Tensor, temperature: float) -> mpmath.mpf:
    """CE([y, 0], [f, bottom] / T), the mean over the batch."""
    losses = []
    for row, label in zip(outputs.tolist(), labels.tolist(), strict=True):
        target = [float(j == label) for j in range(len(row))]
        shares = literal_softmax(scaled(row, temperature))
        losses.append(-sum(t * mpmath.log(s) for t, s in zip(target, shares, strict=True) if t))
    return sum(losses) / len(losses)


@mpmath.workdps(60)
def literal_divergence(row: list[float], temperature: float) -> mpmath.mpf:
    """KL([softmax f, 0] || softmax [f, bottom]), with 0 log 0 = 0; its terms nearly cancel."""
    values = scaled(row, temperature)
    without = [*literal_softmax(values[:-1]), mpmath.mpf(0)]
    return sum(
        p * (mpmath.log(p) - mpmath.log(q))
        for p, q in zip(without, literal_softmax(values), strict=True)
        if p > 0
    )


def rounding_of(outputs: Tensor, temperature: float, weight: float = 0.0) -> float:
    """What a dozen float64 operations on numbers up to max |outputs| / T may lose.

    Either loss is a sum of differences of such numbers: log sum exp (which adds log C at most), a
    logit, bottom; softplus has slope 1 at most, and means grow no error.
    """
    size = float(outputs.abs().max()) / temperature + math.log(outputs.shape[1])
    return 2.0**-53 * 12 * (1.0 + weight) * (2.0 * size + 1.0)


def outputs_and_labels(seed: int, rows: int = 5, classes: int = 4) -> tuple[Tensor, Tensor]:
    labels = torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))
    return 2.0 * randn(seed, rows, classes + 1), labels


@given(seeds, temperatures)
def test_cross_entropy_is_that_of_the_labels_with_a_zero_for_bottom(seed, temperature):
    outputs, labels = outputs_and_labels(seed)
    found = cross_entropy(outputs, labels, temperature=temperature)
    expected = literal_cross_entropy(outputs, labels, temperature)
    assert abs(float(found) - expected) <= rounding_of(outputs, temperature)


@given(seeds, temperatures, weights)
def test_trades_is_cross_entropy_plus_the_literal_divergence(seed, temperature, weight):
    outputs, labels = outputs_and_labels(seed)
    rows = outputs.tolist()
    divergence = sum(literal_divergence(row, temperature) for row in rows) / len(rows)
    expected = literal_cross_entropy(outputs[:, :-1], labels, temperature) + weight * divergence
    found = trades(outputs, labels, weight=weight, temperature=temperature)
    assert abs(float(found) - expected) <= rounding_of(outputs, temperature, weight)


@pytest.mark.parametrize("bottom", [15.0, 19.9, 20.1, 21.0, 25.0, 40.0, 60.0])
def test_the_divergence_has_no_step_where_softplus_is_nearly_linear(bottom):
    """torch's own softplus is x itself above 20, which misses 2e-9 there."""
    outputs = torch.tensor([[0.0, -1.0, bottom]], dtype=torch.float64)
    one, other = (
        trades(outputs, torch.tensor([0]), weight=weight, temperature=1.0) for weight in (0.0, 1.0)
    )
    truth = literal_divergence(outputs[0].tolist(), 1.0)
    assert abs(float(other - one) - truth) <= rounding_of(outputs, 1.0, 1.0)


@given(seeds, temperatures)
def test_the_divergence_is_the_softplus_form(seed, temperature):
    row = outputs_and_labels(seed, rows=1)[0][0].tolist()
    with mpmath.workdps(60):
        values = scaled(row, temperature)
        total = mpmath.log(sum(mpmath.exp(value) for value in values[:-1]))
        softplus = mpmath.log1p(mpmath.exp(values[-1] - total))
        assert abs(literal_divergence(row, temperature) - softplus) < mpmath.mpf(10) ** -50


@pytest.mark.parametrize("bottom", [-1e30, -1e4, 0.0, 1e4, 1e30])
@pytest.mark.parametrize("loss", ["cross-entropy", "trades"])
def test_losses_and_gradients_are_finite_however_large_bottom_is(bottom, loss):
    logits = randn(3, 6, 4, dtype=torch.float32)
    outputs = torch.cat((logits, torch.full((6, 1), bottom)), dim=1).requires_grad_()
    labels = torch.arange(6) % 4
    found = (
        cross_entropy(outputs, labels, temperature=0.1)
        if loss == "cross-entropy"
        else trades(outputs, labels, weight=1.2, temperature=0.1)
    )
    found.backward()
    assert outputs.grad is not None
    assert bool(found.isfinite())
    assert bool(outputs.grad.isfinite().all())


def test_trades_pushes_bottom_down_and_cross_entropy_too():
    for loss in (
        lambda o, y: cross_entropy(o, y),
        lambda o, y: trades(o, y, weight=1.0),
    ):
        outputs, labels = outputs_and_labels(1)
        outputs.requires_grad_()
        loss(outputs, labels).backward()
        assert outputs.grad is not None
        assert bool((outputs.grad[:, -1] > 0).all())


def test_trades_of_weight_0_ignores_bottom():
    outputs, labels = outputs_and_labels(2)
    moved = outputs.clone()
    moved[:, -1] += 5.0
    assert torch.equal(trades(outputs, labels, weight=0.0), trades(moved, labels, weight=0.0))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    outputs, labels = outputs_and_labels(0)
    with pytest.raises(InvalidInput, match="temperature="):
        cross_entropy(outputs, labels, temperature=temperature)
    with pytest.raises(InvalidInput, match="temperature="):
        trades(outputs, labels, weight=1.0, temperature=temperature)


@given(seeds, temperatures, weights)
def test_certified_set_is_the_logistic_loss_of_the_margin_and_the_ranking(
    seed, temperature, weight
):
    outputs, labels = outputs_and_labels(seed)
    logits, margins = outputs[:, :-1], outputs[:, -1]
    found = certified_set(logits, margins, labels, temperature=temperature, ranking_weight=weight)
    logistic = [math.log1p(math.exp(-margin / temperature)) for margin in margins.tolist()]
    ranking = literal_cross_entropy(logits, labels, temperature)
    expected = sum(logistic) / len(logistic) + weight * ranking
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)
