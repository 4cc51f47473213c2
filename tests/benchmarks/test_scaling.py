"""Cost against classes, K, batch and depth, and memory against the number of points.

``python -m tests.benchmarks.plots benchmark.json folder`` draws what is kept here.
"""

import pytest
import torch

from tests.benchmarks import cases
from tests.benchmarks.measure import peak_memory, record, take_turns

GRID = [(name, size, case) for name, row in cases.SCALING.items() for size, case in row]


@pytest.mark.benchmark(group="scaling: eval forward with bottom / plain forward")
@pytest.mark.parametrize(("axis", "size", "case"), GRID, ids=lambda value: str(value)[:12])
def test_eval_forward(benchmark, axis, size, case):
    net, points = case.net().eval(), case.points()
    with torch.no_grad():
        ways = {"plain": lambda: net.backbone(points), "with bottom": lambda: net(points)}
        timing = take_turns(ways, rounds=5)["with bottom"]
        benchmark.pedantic(ways["with bottom"], rounds=1)
    record(benchmark, case.name, "plain float32 forward", timing, axis=axis, size=size)


@pytest.mark.benchmark(group="certify, float32 first / plain float32 forward, trained network")
def test_float32_first(benchmark):
    net, points = cases.trained()
    with torch.no_grad():
        ways = {
            "plain": lambda: net.backbone(points),
            "certify": lambda: net.certify(points, mode="float32-first"),
        }
        timing = take_turns(ways)["certify"]
        benchmark.pedantic(ways["certify"], rounds=1)
    record(benchmark, "Landsat, 36-256x3-6, RT3, batch 1024", "plain float32 forward", timing)


STREAM = """
import sys
import torch
from relaxcert import GloRoNet
from relaxcert.nn import dense
from tests.benchmarks.cases import AFFINITY
torch.set_num_threads(1); torch.manual_seed(0)
net = GloRoNet(dense(5, [64] * 3, 5), AFFINITY)
batches = (torch.rand(1000, 5) for _ in range(int(sys.argv[1]) // 1000))
assert sum(len(found) for found in net.certify_stream(batches)) == int(sys.argv[1])
"""


@pytest.mark.benchmark(group="memory of a stream")
def test_memory_of_a_stream(benchmark):
    few = peak_memory(STREAM, "10000")
    many = benchmark.pedantic(lambda: peak_memory(STREAM, "1000000"), rounds=1)
    benchmark.extra_info.update(work="1,000,000 points", against="10,000 points")
    benchmark.extra_info.update(mib=round(many), memory_ratio=round(many / few, 3))
