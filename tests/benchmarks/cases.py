"""The networks and properties that are measured; weights are the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from relaxcert import Affinity, AffinitySets, GloRoNet, Local, RelaxedTopK, fit
from relaxcert.data import landsat
from relaxcert.nn import dense
from relaxcert.nn.layers import MinMax
from relaxcert.spec import Property
from relaxcert.training import Optimisation, cross_entropy

AFFINITY = Affinity(AffinitySets.adjacent([3, 1, 0, 2, 4]), eps="0.01")
RT3 = RelaxedTopK(k=3, eps="0.01")
RT5 = RelaxedTopK(k=5, eps="36/255")


class Case(NamedTuple):
    """A network, a property and points; ``make`` gives them."""

    name: str
    backbone: Callable[[], nn.Module]
    prop: Property
    batch: int
    shape: tuple[int, ...]
    classes: int

    def net(self) -> GloRoNet:
        torch.manual_seed(0)
        return GloRoNet(self.backbone(), self.prop)

    def points(self) -> Tensor:
        return torch.rand(self.batch, *self.shape, generator=torch.Generator().manual_seed(1))

    def labels(self) -> Tensor:
        return torch.randint(
            self.classes, (self.batch,), generator=torch.Generator().manual_seed(2)
        )


def dense_case(
    inputs: int, width: int, classes: int, prop: Property, batch: int, *, depth: int = 3
) -> Case:
    title = {AFFINITY: "affinity pairs"}.get(prop, f"RT{max(prop.lengths())}")
    name = f"{inputs}-{width}x{depth}-{classes}, {title}, batch {batch}"
    return Case(
        name,
        lambda: dense(inputs, [width] * depth, classes),
        prop,
        batch,
        (inputs,),
        classes,
    )


def conv_backbone(classes: int = 100) -> nn.Module:
    """The paper's CIFAR-100 network; strided convolutions stand for its down-sampling."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        MinMax(),
        nn.Conv2d(32, 64, 2, stride=2),
        MinMax(),
        nn.Conv2d(64, 64, 2, stride=2),
        MinMax(),
        nn.Flatten(),
        nn.Linear(4096, 256),
        MinMax(),
        nn.Linear(256, classes),
    )


CIFAR = Case("CIFAR-100 conv, RT5, batch 256", conv_backbone, RT5, 256, (3, 32, 32), 100)

SMALL = dense_case(5, 256, 5, RT3, 1024)
SMALL_AFFINITY = dense_case(5, 256, 5, AFFINITY, 1024)
WIDE = dense_case(5, 1000, 5, RT3, 1024)
WIDE_AFFINITY = dense_case(5, 1000, 5, AFFINITY, 1024)
IMAGES = dense_case(3072, 256, 100, RT5, 256)

# Cost against classes, K, batch, depth: each varies one number of a common case.
SCALING = {
    "classes": [
        (c, dense_case(64, 256, c, RelaxedTopK(k=3, eps="0.01"), 256))
        for c in (5, 10, 100, 1000, 21841)
    ],
    "K": [(k, dense_case(64, 256, 100, RelaxedTopK(k=k, eps="0.01"), 256)) for k in (1, 3, 5, 10)],
    "batch": [(b, dense_case(64, 256, 100, RT5, b)) for b in (16, 64, 256, 1024)],
    "depth": [(d, dense_case(64, 256, 100, RT5, 256, depth=d)) for d in (1, 2, 4, 8)],
}


def training_steps(case: Case, *, local: bool = False) -> dict[str, Callable[[], object]]:
    """One step of Adam on plain cross-entropy, and on cross-entropy with bottom."""
    points, labels = case.points(), case.labels()
    plain = case.net().backbone.train()
    robust = (case._replace(prop=Local(eps="0.01")) if local else case).net().train()

    def step_of(net: nn.Module) -> Callable[[], object]:
        optimizer = torch.optim.Adam(net.parameters(), fused=True)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(net(points), labels).backward()
            optimizer.step()

        return step

    return {"plain": step_of(plain), "with bottom": step_of(robust)}


def trained() -> tuple[GloRoNet, Tensor]:
    """A network trained a little on Landsat, and points of the test split."""
    torch.manual_seed(0)
    net = GloRoNet(dense(36, [256] * 3, 6), RelaxedTopK(k=3, eps="0.03"))
    settings = Optimisation(epochs=4, temperature=0.1, orthogonal=True)
    fit(net, landsat("train"), settings, progress=False)
    return net, landsat("test").inputs[:1024]
