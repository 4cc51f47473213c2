"""Random search over layers of all kinds: bounds against the layer's own matrix, or its moves.

Quick: a few hundred layers. ``RELAXCERT_LONG=1 pytest tests/lipschitz/test_random_layers.py`` runs
6,000
(recorded: no violation; 24 kinds, 250 layers each).
"""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from relaxcert.lipschitz import rules_normalisation, rules_pooling
from relaxcert.lipschitz.matrix import ORDER
from tests.lipschitz.layer_zoo import KINDS, LINEAR_KINDS, dense, random_case, rule_at
from tests.long import long_search
from tests.networks import NORMS, directions, randn

# The reference is computed in float64: a matrix norm to about 1e-13, a ratio of moves to 1e-11.
_LINEAR, _MOVES = 1e-12, 1e-9


def truth(name: str, layer: nn.Module, shape: tuple[int, ...], norm: str, seed: int) -> float:
    """The constant of an affine layer; for others the largest ratio that was found."""
    if name in LINEAR_KINDS:
        order = {"l2": 2, "linf": float("inf"), "l1": 1}[norm]
        return float(torch.linalg.matrix_norm(dense(layer, shape), order))
    return largest_ratio(layer, shape, norm, seed)


def largest_ratio(layer: nn.Module, shape: tuple[int, ...], norm: str, seed: int) -> float:
    """Over random points, scales and directions, and along the layer's own gradients."""
    count, found = int(torch.Size(shape).numel()), 0.0
    for scale in (0.3, 3.0):
        point = (scale * randn(seed, count)).requires_grad_()
        output = layer(point.reshape(1, *shape)).flatten()
        picked = output.detach().abs().topk(min(3, len(output))).indices
        gradients = torch.stack(
            [torch.autograd.grad(output[i], point, retain_graph=True)[0] for i in picked]
        )
        everything = torch.autograd.grad(output.sum(), point)[0]
        moves = directions(norm, count, seed, torch.cat([gradients, everything[None]])) * 1e-3
        with torch.no_grad():
            start = point.detach()
            after = layer((start + moves).reshape(-1, *shape)).flatten(1)
            change = after - layer(start.reshape(1, *shape)).flatten(1)
            taken = (start + moves) - start
        ratio = change.norm(ORDER[norm], dim=1) / taken.norm(ORDER[norm], dim=1)
        found = max(found, float(ratio.max()))
    return found


def violations(name: str, count: int, seed: int) -> list[str]:
    """Bounds that are below the truth, over random layers of one kind and all norms."""
    rng, found = random.Random(f"{name} {seed}"), []
    for index in range(count):
        layer, shape = random_case(name, rng)
        for norm in NORMS:
            bound = rule_at(layer, shape).verified(layer, norm).value
            allowed = _LINEAR if name in LINEAR_KINDS else _MOVES
            if truth(name, layer, shape, norm, seed + index) > bound * (1 + allowed):
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
        assert bound <= truth(name, layer, shape, norm, 0) * (1 + slack) + 1e-12


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
    others = {"PixelShuffle", "ChannelShuffle", "ReLU6", "OrthogonalLinear", "Rearrange"}
    missing = {
        kind.__name__
        for kind in supported()
        if kind not in met
        and kind.__module__.startswith(("torch", "relaxcert"))
        and not any(word in kind.__name__ for word in moves | others | {"Diagonal"})
    }
    assert missing == set()
