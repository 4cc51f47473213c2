"""What soundness costs: the example in small, and the table that the documents show."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from relaxcert import GloRoNet, RelaxedTopK, fit
from relaxcert.data import landsat
from relaxcert.nn import dense
from relaxcert.training.recipe import Optimisation

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def example():
    path = ROOT / "examples" / "cost_of_soundness.py"
    spec = importlib.util.spec_from_file_location("cost_of_soundness", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_verified_and_usual_vra_differ_by_less_than_2_in_1000(example):
    torch.manual_seed(0)
    train, test = landsat("train"), landsat("test")
    net = GloRoNet(dense(36, [32, 32], 6), RelaxedTopK(k=3, eps=example.EPS))
    fit(net, train, Optimisation(epochs=1), seed=0)
    row = example.compare("small", net, test.inputs, test.labels)
    assert 0.5 < row.verified_vra < 1.0
    # Both are shares of 2,000 points; the usual one is not lower, for its bounds are not higher.
    assert 0.0 <= row.usual_vra - row.verified_vra < 0.002


def test_the_power_method_of_the_example_is_converged(example):
    torch.manual_seed(0)
    layer = torch.nn.Linear(20, 30)
    truth = float(torch.linalg.matrix_norm(layer.weight.detach(), 2))
    assert example.power_method(layer, torch.Size([20])) == pytest.approx(truth, rel=1e-3)


def test_the_table_of_the_documents():
    lines = (ROOT / "docs" / "soundness.md").read_text("utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| network | VRA, verified"))
    rows = [line.split("|")[1:-1] for line in lines[start + 2 : start + 9] if line.startswith("|")]
    assert len(rows) >= 3
    for _, verified, usual, difference, *_ in rows:
        assert float(usual) - float(verified) == pytest.approx(float(difference))
        assert abs(float(difference)) < 0.002
