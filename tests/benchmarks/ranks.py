"""Throughput of 2 ranks over 1, one thread each: ``python -m tests.benchmarks.ranks``.

Wall time between barriers, so that starting processes does not count; 1 and 2 ranks alternate, and
the median ratio is printed. It says something only on a machine with at least 2 quiet cores.
"""

from __future__ import annotations

import os
import statistics
import time

import torch

from relaxcert import GloRoNet, Local, RelaxedTopK
from relaxcert.nn import dense
from relaxcert.nn.convolutional import conv_net
from relaxcert.report.blocks import Work
from relaxcert.training import Optimisation
from relaxcert.training.batches import Batches
from relaxcert.training.objective import Gradient
from relaxcert.training.ranks import present_ranks
from tests.ranks import in_ranks

ROUNDS = 5
CASES = {
    "dense 16-128x3-26, RT3": (16, 26, 20000),
    "conv net of the paper, 28 x 28, Local": ((1, 28, 28), 10, 512),
}


def built(name: str) -> tuple[GloRoNet, torch.Tensor, torch.Tensor]:
    shape, classes, points = CASES[name]
    torch.manual_seed(0)
    if isinstance(shape, int):
        backbone, prop, sizes = dense(shape, [128] * 3, classes), RelaxedTopK(3, eps=0.03), (shape,)
    else:
        backbone, prop, sizes = conv_net(shape, classes), Local(eps=0.5), shape
    net = GloRoNet(backbone, prop, input_shape=sizes)
    return net, torch.rand(points, *sizes), torch.randint(classes, (points,))


def certifying(name: str) -> float:
    """Points a second, of all ranks together."""
    ranks = present_ranks()
    net, points, _ = built(name)
    work = Work(net, points, 64)
    work.certify(0)
    ranks.wait()
    started = time.perf_counter()
    for block in work.blocks[ranks.rank :: ranks.count]:
        work.certify(block)
    ranks.wait()
    return len(points) / (time.perf_counter() - started)


def training(name: str) -> float:
    """Points a second, of all ranks together, batches of 256."""
    ranks = present_ranks()
    net, points, labels = built(name)
    gradient = Gradient(net.train(), Optimisation(batch_size=256))
    optimizer = torch.optim.Adam(net.backbone.parameters(), lr=1e-4, fused=True)
    batches = Batches((points, labels), 256, net.num_classes, torch.device("cpu"), ranks)

    def epoch(number: int) -> None:
        for batch, share in zip(batches.epoch(0, number), batches.shares(), strict=True):
            optimizer.zero_grad()
            gradient.add(*batch, 1.0, share)
            optimizer.step()

    epoch(0)
    ranks.wait()
    started = time.perf_counter()
    epoch(1)
    ranks.wait()
    return len(points) / (time.perf_counter() - started)


def main() -> None:
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name in CASES:
        for way in (certifying, training):
            speeds = [[in_ranks(n, way, name)[0] for n in (1, 2)] for _ in range(ROUNDS)]
            ratio = statistics.median(two / one for one, two in speeds)
            one, two = (statistics.median(column) for column in zip(*speeds, strict=True))
            print(f"{name}, {way.__name__}: {one:,.0f} -> {two:,.0f} points/s, x {ratio:.2f}")


if __name__ == "__main__":
    main()
