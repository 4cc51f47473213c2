"""Random search over layers of all kinds: bounds against exact or 40-digit references.

Quick: a few hundred layers. ``RELAXCERT_LONG=1 pytest tests/lipschitz/test_random_layers.py`` runs
6,000 and more (docs/layers.md records the result).
"""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from relaxcert.lipschitz import rules_convolution, rules_normalisation, rules_pooling
from tests.lipschitz.layer_zoo import KINDS, LINEAR_KINDS, dense, random_case, rule_at
from tests.lipschitz.references import SLOPES, is_below_the_truth, norm_exceeds
from tests.long import long_search
from tests.networks import NORMS, randn


def violations(name: str, count: int, seed: int) -> list[str]:
    """Bounds that are below the truth, over random layers of one kind and all norms."""
    rng, found = random.Random(f"{name} {seed}"), []
    for index in range(count):
        layer, shape = random_case(name, rng)
        for norm in NORMS:
            bound = rule_at(layer, shape).verified(layer, norm).value
            if is_below_the_truth(bound, layer, shape, norm, seed + index):
                found.append(f"{layer} on {shape} in {norm}")
    return found


@pytest.mark.parametrize("name", list(KINDS))
def test_no_bound_is_below_the_truth(name):
    assert violations(name, 12, 0) == []


@long_search
@pytest.mark.parametrize("shard", range(10))
@pytest.mark.parametrize("name", list(KINDS))
def test_no_bound_is_below_the_truth_at_length(name, shard):
    assert violations(name, 25, 1000 * (shard + 1)) == []


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", list(LINEAR_KINDS))
def test_bounds_of_linear_layers_are_close_above_the_truth(name, norm):
    rng = random.Random(5)
    for _ in range(4):
        layer, shape = random_case(name, rng)
        bound = rule_at(layer, shape).verified(layer, norm).value
        # Small maps are proved as they are; sums of taps count those that only meet padding.
        slack = 1e-6 if norm == "l2" else 3.0
        order = {"l2": 2, "linf": float("inf"), "l1": 1}[norm]
        truth = float(torch.linalg.matrix_norm(dense(layer, shape), order))
        assert bound <= truth * (1 + slack) + 1e-12


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize("norm", NORMS)
def test_the_reference_is_the_truth_itself(name, norm):
    """Bounds that are a hair too small are found: by 1e-12 where the reference is the constant."""
    rng = random.Random(3)
    exact = name in LINEAR_KINDS or isinstance(random_case(name, rng)[0], (*SLOPES, nn.PReLU))
    found = 0
    for index in range(6):
        layer, shape = random_case(name, rng)
        bound = rule_at(layer, shape).tightened().verified(layer, norm).value
        # l2 norms are proved to 1e-9, of convolutions to 1e-6; sums of taps count padding's too.
        share = (2e-6 if norm == "l2" else 0.75) if name in LINEAR_KINDS else 1e-12
        share = share if exact else 0.5
        found += is_below_the_truth(bound * (1 - share), layer, shape, norm, index)
    assert found >= (6 if exact and (norm == "l2" or name not in LINEAR_KINDS) else 1)


@pytest.mark.parametrize("seed", range(5))
def test_a_singular_vector_of_float64_gives_the_norm_to_1e_14(seed):
    weight = randn(seed, 6, 9)
    exact = np.array([[Fraction(v) for v in row] for row in weight.tolist()])
    norm = float(torch.linalg.matrix_norm(weight, 2))
    assert norm_exceeds(exact, Fraction(norm * (1 - 1e-14)), "l2")
    assert not norm_exceeds(exact, Fraction(norm * (1 + 1e-14)), "l2")


def test_a_bound_that_is_a_hair_too_small_is_found(monkeypatch):
    true = rules_convolution.bound_of

    def lower(*arguments, **settings):
        bound = true(*arguments, **settings)
        return type(bound)(bound.value * (1 - 2e-6), bound.method)

    monkeypatch.setattr(rules_convolution, "bound_of", lower)
    assert violations("convolution", 12, 0) != []


def test_a_forgotten_scale_of_batch_norm_is_found(monkeypatch):
    monkeypatch.setattr(
        rules_normalisation,
        "factors_of",
        lambda layer: 1.0 / (layer.running_var + layer.eps).sqrt(),
    )
    assert violations("batch norm", 12, 0) != []


def test_constant_one_of_maximum_pooling_is_found(monkeypatch):
    """Case 10: an input that lies in several windows moves all of them."""
    monkeypatch.setattr(rules_pooling, "windows_of_one_input", lambda layer: 1)
    assert violations("max pool", 12, 0) != []
    layer = nn.MaxPool2d(3, 1)
    with torch.no_grad():
        points = torch.zeros(2, 1, 5, 5)
        points[1, 0, 2, 2] = 1.0
        assert float((layer(points)[1] - layer(points)[0]).norm()) == 3.0
    monkeypatch.undo()
    assert rule_at(layer, (1, 5, 5)).verified(layer, "l2").value == 3.0


def test_every_rule_of_the_package_is_met_by_the_search():
    """A new rule must be given to the search as well."""
    from relaxcert.lipschitz import supported

    rng = random.Random(1)
    met = {type(random_case(name, rng)[0]) for name in KINDS for _ in range(60)}
    moves = {"Flatten", "Unflatten", "Identity", "Dropout", "Permute", "Reshape", "Part", "Pad"}
    others = {"PixelShuffle", "ChannelShuffle", "OrthogonalLinear", "Rearrange"}
    missing = {
        kind.__name__
        for kind in supported()
        if kind not in met
        and kind.__module__.startswith(("torch", "relaxcert"))
        and not any(
            word in kind.__name__ for word in moves | others | {"Diagonal", "UpsamplingNearest2d"}
        )
    }
    assert missing == set()
