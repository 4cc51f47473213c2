"""Four classes in the plane whose neighbours overlap, and networks with a property on them."""

from dataclasses import dataclass

import torch

from relaxcert import Affinity, AffinitySets, GloRoNet, Local, RelaxedTopK, TopK, fit
from relaxcert.data.landsat import Split
from relaxcert.nn import dense
from relaxcert.spec import Property
from relaxcert.training import Optimisation

NAMES = ("A", "B", "C", "D")
EPS = "0.15"  # l2, in units of the plane
EXTENT = (-2.9, 2.9, -1.8, 1.8)
# A chain: A meets B, B meets C, C meets D; where two discs overlap, either label may be right.
CENTRES = torch.tensor([[-1.8, 0.6], [-0.6, -0.5], [0.6, 0.5], [1.8, -0.6]])
_RADIUS = 1.0


@dataclass(frozen=True)
class Panel:
    """A network, and what its picture shows."""

    net: GloRoNet
    show: str = "strictest"
    alone: bool = True  # letters on the classes
    pairs: str = ""  # {A,B} for A, and so on


def panels(train: Split, epochs: int) -> dict[str, Panel]:
    """The networks of the figure, by title."""
    pairs = AffinitySets([["A", "B"], ["C", "D"]], num_classes=4, class_names=NAMES)
    local, affinity = Local(eps=EPS), Affinity(pairs, eps=EPS)
    rt2 = trained(RelaxedTopK(2, eps=EPS), train, epochs)
    top2 = GloRoNet(rt2.backbone, TopK(2, eps=EPS))
    return {
        "Standard network: predictions": Panel(_standard(local, train, epochs), "prediction"),
        "Local": Panel(trained(local, train, epochs)),
        "RT2": Panel(rt2, pairs="ABC"),
        "Affinity {A,B}, {C,D}": Panel(trained(affinity, train, epochs), pairs="AC"),
        "The RT2 network asked for top-2": Panel(top2, alone=False, pairs="ABC"),
    }


def four_discs(points: int, seed: int) -> Split:
    """Uniform points of four overlapping discs, ``points`` of each class."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(4).repeat_interleave(points)
    angle = 2 * torch.pi * torch.rand(4 * points, generator=draw)
    distance = _RADIUS * torch.rand(4 * points, generator=draw).sqrt()
    offsets = torch.stack([angle.cos(), angle.sin()], dim=1) * distance[:, None]
    return Split(CENTRES[labels] + offsets, labels, NAMES)


def trained(prop: Property, train: Split, epochs: int) -> GloRoNet:
    """A network that is trained for the property."""
    torch.manual_seed(0)
    net = GloRoNet(dense(2, [64, 64, 64], 4), prop)
    settings = Optimisation(epochs=epochs, temperature=0.1, orthogonal=True)
    fit(net, train, settings, progress=False)
    return net


def _standard(prop: Property, train: Split, epochs: int) -> GloRoNet:
    """One whose training does not know of bottom."""
    torch.manual_seed(0)
    net = GloRoNet(dense(2, [64, 64, 64], 4), prop)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(train)).split(128):
            optimizer.zero_grad()
            logits = net.backbone(train.inputs[rows])
            torch.nn.functional.cross_entropy(logits, train.labels[rows]).backward()
            optimizer.step()
    return net.eval()
