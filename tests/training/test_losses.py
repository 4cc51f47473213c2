"""The losses against their formulas, written out literally."""

from __future__ import annotations

import math

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


def literal_softmax(row: list[float]) -> list[float]:
    top = max(row)
    powers = [math.exp(value - top) for value in row]
    return [power / sum(powers) for power in powers]


def literal_cross_entropy(outputs: Tensor, labels: Tensor, temperature: float) -> float:
    """CE([y, 0], [f, bottom] / T), the mean over the batch."""
    losses = []
    for row, label in zip(outputs.tolist(), labels.tolist(), strict=True):
        target = [float(j == label) for j in range(len(row))]
        shares = literal_softmax([value / temperature for value in row])
        losses.append(-sum(t * math.log(s) for t, s in zip(target, shares, strict=True) if t))
    return sum(losses) / len(losses)


def literal_divergence(row: list[float], temperature: float) -> float:
    """KL([softmax f, 0] || softmax [f, bottom]), with 0 log 0 = 0."""
    scaled = [value / temperature for value in row]
    without = [*literal_softmax(scaled[:-1]), 0.0]
    return sum(
        p * (math.log(p) - math.log(q))
        for p, q in zip(without, literal_softmax(scaled), strict=True)
        if p > 0
    )


def outputs_and_labels(seed: int, rows: int = 5, classes: int = 4) -> tuple[Tensor, Tensor]:
    labels = torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))
    return 2.0 * randn(seed, rows, classes + 1), labels


@given(seeds, temperatures)
def test_cross_entropy_is_that_of_the_labels_with_a_zero_for_bottom(seed, temperature):
    outputs, labels = outputs_and_labels(seed)
    found = cross_entropy(outputs, labels, temperature=temperature)
    expected = literal_cross_entropy(outputs, labels, temperature)
    assert float(found) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(seeds, temperatures, weights)
def test_trades_is_cross_entropy_plus_the_literal_divergence(seed, temperature, weight):
    outputs, labels = outputs_and_labels(seed)
    rows = outputs.tolist()
    divergence = sum(literal_divergence(row, temperature) for row in rows) / len(rows)
    expected = literal_cross_entropy(outputs[:, :-1], labels, temperature) + weight * divergence
    found = trades(outputs, labels, weight=weight, temperature=temperature)
    assert float(found) == pytest.approx(expected, rel=1e-11, abs=1e-11)


@given(seeds, temperatures)
def test_the_divergence_is_the_softplus_form(seed, temperature):
    row = outputs_and_labels(seed, rows=1)[0][0].tolist()
    scaled = [value / temperature for value in row]
    total = math.log(sum(math.exp(value - max(scaled)) for value in scaled[:-1])) + max(scaled)
    softplus = math.log1p(math.exp(scaled[-1] - total))
    assert literal_divergence(row, temperature) == pytest.approx(softplus, rel=1e-9, abs=1e-12)


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
