"""What certification costs beside the plain network; read the ratios within one group."""

import pytest
import torch

from relaxcert import Affinity, AffinitySets, GloRoNet, Local, RelaxedTopK
from relaxcert.nn import dense
from relaxcert.training import cross_entropy

PROPERTIES = {
    "local": Local(eps="0.01"),
    "rt3": RelaxedTopK(k=3, eps="0.01"),
    "affinity": Affinity(AffinitySets.adjacent([3, 1, 0, 2, 4]), eps="0.01"),
}


@pytest.fixture
def points():
    torch.manual_seed(0)
    return torch.rand(1024, 5)


def network(name):
    torch.manual_seed(0)
    return GloRoNet(dense(5, [256, 256, 256], 5), PROPERTIES[name])


@pytest.mark.benchmark(group="forward: 5-256x3-5, batch 1024")
@pytest.mark.parametrize("name", ["plain", *PROPERTIES])
def test_forward_with_bottom(benchmark, name, points):
    net = network("local" if name == "plain" else name).eval()
    run = net.backbone if name == "plain" else net
    with torch.no_grad():
        run(points)
        benchmark(run, points)


@pytest.mark.benchmark(group="certify in float64: 5-256x3-5, batch 1024")
@pytest.mark.parametrize("name", ["plain", *PROPERTIES])
def test_certify(benchmark, name, points):
    net = network("local" if name == "plain" else name).eval()
    plain = net.backbone.double() if name == "plain" else None
    with torch.no_grad():
        if plain is None:
            net.certify(points)
            benchmark(net.certify, points)
        else:
            benchmark(plain, points.double())


@pytest.mark.benchmark(group="training step: 5-256x3-5, batch 1024")
@pytest.mark.parametrize("name", ["plain", *PROPERTIES])
def test_training_step(benchmark, name, points):
    net = network("local" if name == "plain" else name).train()
    labels = torch.randint(5, (len(points),))
    optimizer = torch.optim.Adam(net.parameters(), fused=True)

    def step():
        optimizer.zero_grad()
        outputs = net.backbone(points) if name == "plain" else net(points)
        cross_entropy(outputs, labels).backward()
        optimizer.step()

    benchmark(step)
