"""The head alone, against the plain one: all links of the top classes in one tensor."""

import pytest
import torch

from relaxcert import RelaxedTopK
from relaxcert.heads import compile_property
from relaxcert.heads.links import EstimatedLinks, ProvedLinks
from relaxcert.lipschitz.pairs import EstimatedPairs, TablePairs, VerifiedRows
from tests.benchmarks.measure import peak_memory, record, take_turns
from tests.heads import plain

GROUP = "head alone, RT5, batch 1024 / plain head (B, K, C)"


def parts(classes: int, batch: int = 1024):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, classes, generator=generator)
    weight = torch.randn(classes, 256, generator=generator) / 16
    return compile_property(RelaxedTopK(k=5, eps="0.01"), classes), logits, weight


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_margins_without_gradient(benchmark, classes):
    head, logits, weight = parts(classes)
    links = EstimatedLinks(logits, EstimatedPairs(weight, "l2"), 0.01)
    with torch.no_grad():
        ways = {
            "plain": lambda: plain.margins(RelaxedTopK(k=5, eps="0.01"), links, logits),
            "head": lambda: head.margin(logits, lambda ball: links),
        }
        timing = take_turns(ways)["head"]
        benchmark.pedantic(ways["head"], rounds=3)
    record(benchmark, f"margins, C = {classes}", "plain head", timing)


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_margins_and_gradient(benchmark, classes):
    head, logits, weight = parts(classes)
    logits.requires_grad_()
    weight.requires_grad_()

    def fast():
        links = EstimatedLinks(logits, EstimatedPairs(weight, "l2"), 0.01)
        head.margin(logits, lambda ball: links).margin.sum().backward()

    def slow():
        links = EstimatedLinks(logits, torch.cdist(weight, weight), 0.01)
        plain.margins(RelaxedTopK(k=5, eps="0.01"), links, logits)[0].sum().backward()

    timing = take_turns({"plain": slow, "head": fast}, rounds=7)["head"]
    benchmark.pedantic(fast, rounds=3)
    record(benchmark, f"margins, gradient, distances, C = {classes}", "plain head", timing)


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_proved_margins_and_radii(benchmark, classes):
    head, logits, weight = parts(classes)
    exact = logits.double()
    slack = torch.full_like(exact, 1e-12)
    pairs = TablePairs(torch.cdist(weight.double(), weight.double()))
    links = ProvedLinks(exact, slack, slack[:, 0], pairs, 0.01, product=1.0)
    ways = {
        "plain": lambda: plain.margins(RelaxedTopK(k=5, eps="0.01"), links, exact),
        "head": lambda: head(exact, lambda ball: links),
    }
    timing = take_turns(ways, rounds=7)["head"]
    benchmark.pedantic(ways["head"], rounds=3)
    record(benchmark, f"proved margins, sets, radii, C = {classes}", "margins only", timing)


@pytest.mark.benchmark(group="many classes: rows proved on demand, 21,841 classes, RT5, batch 256")
def test_many_classes(benchmark):
    classes = 21841
    head, logits, weight = parts(classes, batch=256)
    exact = logits.double()
    slack = torch.full_like(exact, 1e-12)
    links = ProvedLinks(
        exact, slack, slack[:, 0], VerifiedRows(weight.double(), "l2"), 0.01, product=1.0
    )
    features = torch.randn(256, 256, dtype=torch.float64)
    ways = {
        "last layer": lambda: features @ weight.double().T,
        "head": lambda: head(exact, lambda ball: links),
    }
    timing = take_turns(ways, rounds=3)["head"]
    benchmark.pedantic(ways["head"], rounds=1)
    peak = round(peak_memory(MANY))
    idle = round(peak_memory("import torch, relaxcert.heads"))
    record(
        benchmark,
        "margins, sets, radii",
        "last layer in float64",
        timing,
        peak_mib=peak,
        idle_mib=idle,
    )


MANY = """
import torch
from relaxcert import GloRoNet, RelaxedTopK
torch.set_num_threads(1); torch.manual_seed(0)
net = GloRoNet(torch.nn.Sequential(torch.nn.Linear(256, 21841)), RelaxedTopK(k=5, eps="0.001"))
assert len(net.certify(torch.randn(256, 256))) == 256
"""
