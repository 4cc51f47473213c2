"""What certification and training cost beside the plain network, one figure a row of the issue."""

import copy

import pytest
import torch

from tests.benchmarks import cases
from tests.benchmarks.measure import record, take_turns

ROUNDS = 15


@pytest.mark.benchmark(group="eval forward with bottom / plain forward")
@pytest.mark.parametrize(
    "case",
    [cases.SMALL, cases.SMALL_AFFINITY, cases.WIDE, cases.WIDE_AFFINITY, cases.IMAGES, cases.CIFAR],
    ids=lambda case: case.name,
)
def test_eval_forward(benchmark, case):
    net, points = case.net().eval(), case.points()
    with torch.no_grad():
        ways = {"plain": lambda: net.backbone(points), "with bottom": lambda: net(points)}
        timing = take_turns(ways, rounds=ROUNDS)["with bottom"]
        benchmark.pedantic(ways["with bottom"], rounds=3)
    record(benchmark, case.name, "plain float32 forward", timing)


@pytest.mark.benchmark(group="certify (level R) / plain float64 forward")
@pytest.mark.parametrize(
    "case", [cases.SMALL, cases.WIDE, cases.IMAGES, cases.CIFAR], ids=lambda case: case.name
)
def test_certify(benchmark, case):
    net, points = case.net().eval(), case.points()
    exact, exact_points = copy.deepcopy(net.backbone).double(), points.double()
    with torch.no_grad():
        ways = {"plain": lambda: exact(exact_points), "certify": lambda: net.certify(points)}
        timing = take_turns(ways, rounds=ROUNDS)["certify"]
        benchmark.pedantic(ways["certify"], rounds=3)
    record(benchmark, case.name, "plain float64 forward", timing)


@pytest.mark.benchmark(group="training step / plain cross-entropy step")
@pytest.mark.parametrize(
    "case", [cases.SMALL, cases.SMALL_AFFINITY, cases.IMAGES, cases.CIFAR], ids=lambda c: c.name
)
def test_training_step(benchmark, case):
    ways = cases.training_steps(case)
    timing = take_turns(ways, rounds=ROUNDS)["with bottom"]
    benchmark.pedantic(ways["with bottom"], rounds=3)
    record(benchmark, case.name, "plain cross-entropy step", timing)
