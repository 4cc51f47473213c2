"""What soundness costs: verified bounds against a converged power method, VRA and time.

    python examples/cost_of_soundness.py            # a few epochs, half a minute
    python examples/cost_of_soundness.py --full     # the table of docs/soundness.md

The usual way (float32, power method until nothing changes, no rounding terms) proves nothing; it
is here to show that giving it up costs next to nothing.
"""

import argparse
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relaxcert import GloRoNet, RelaxedTopK, fit
from relaxcert.data import landsat
from relaxcert.data.landsat import Split
from relaxcert.heads.links import EstimatedLinks
from relaxcert.nn import MinMax, dense
from relaxcert.training.recipe import Optimisation, load_recipe

EPS = "0.03"


@dataclass
class Row:
    """One network, certified both ways; times in seconds for all points together."""

    name: str
    verified_vra: float
    usual_vra: float
    verified_bounds: float
    usual_bounds: float
    verified_points: float
    usual_points: float


def power_method(layer: nn.Module, shape: torch.Size) -> float:
    """The largest singular value of a linear or convolutional layer, until nothing changes."""
    zero = torch.zeros(1, *shape)
    offset = layer(zero).detach()
    vector, size = torch.randn(1, *shape), 0.0
    for _ in range(10_000):
        vector = (vector / vector.norm()).requires_grad_()
        image = layer(vector) - offset
        previous, size = size, float(image.detach().norm())
        (vector,) = torch.autograd.grad(image, vector, image.detach())
        if abs(size - previous) <= 1e-7 * size:
            break
    return size


def usual_product(net: GloRoNet, points: Tensor) -> float:
    """The product of the layers' norms before the last, taking everything else as 1-Lipschitz."""
    product, hidden = 1.0, points[:1]
    for layer in [m for m in net.backbone.modules() if not list(m.children())][:-1]:
        if list(layer.parameters()):
            product *= power_method(layer, hidden.shape[1:])
        hidden = layer(hidden).detach()
    return product


def usual_vra(net: GloRoNet, product: float, points: Tensor, labels: Tensor) -> float:
    """Certify in float32 with an estimated constant; the share that is certified and right."""
    last = [m for m in net.backbone.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        logits, pairs = net.backbone(points), torch.cdist(last.weight, last.weight)
        reach = product * float(EPS)
        outcome = net.head(logits, lambda ball: EstimatedLinks(logits, pairs, reach))
    return share(outcome.margin > 0, outcome.sets, labels)


def share(certified: Tensor, sets: Tensor, labels: Tensor) -> float:
    """VRA (paper, 6.1): certified, and the label is in the loosest certified set."""
    return float((certified & sets.gather(1, labels[:, None])[:, 0]).double().mean())


def compare(name: str, net: GloRoNet, points: Tensor, labels: Tensor) -> Row:
    """Certify all points both ways."""
    net.eval()
    start = time.perf_counter()
    net.verify()
    bounded = time.perf_counter()
    certificates = net.certify(points)
    certified = time.perf_counter()
    product = usual_product(net, points)
    estimated = time.perf_counter()
    usual = usual_vra(net, product, points, labels)
    end = time.perf_counter()
    return Row(
        name,
        share(certificates.certified, certificates.sets, labels),
        usual,
        bounded - start,
        estimated - certified,
        certified - bounded,
        end - estimated,
    )


def networks() -> dict[str, tuple[nn.Module, Optimisation]]:
    """A recipe's near-orthogonal network, and plain ones, whose spectra are spread."""
    recipe = load_recipe("landsat-rt3")
    plain = recipe.optimisation.model_copy(update={"orthogonal": False})
    # Patches turned and mirrored as rows of numbers; images would be turned in another way.
    images = plain.model_copy(update={"augmentation": "none"})
    torch.manual_seed(0)
    return {
        "3 x 64 MinMax, orthogonal": (recipe.architecture.build(36, 6), recipe.optimisation),
        "3 x 64 MinMax, plain": (dense(36, [64, 64, 64], 6), plain),
        "3 x 128 MinMax, plain": (dense(36, [128, 128, 128], 6), plain),
        "2 x 32 convolutional, plain": (convolutional(), images),
    }


def convolutional() -> nn.Module:
    """Two 3 x 3 convolutions on patches of 3 x 3 pixels in 4 bands."""
    return nn.Sequential(
        nn.Conv2d(4, 32, 3, padding=1),
        MinMax(),
        nn.Conv2d(32, 32, 3, padding=1),
        MinMax(),
        nn.Flatten(),
        nn.Linear(32 * 9, 6),
    )


def for_network(split: Split, backbone: nn.Module) -> Split:
    """For a convolutional network, rows of 9 pixels x 4 bands as images, (bands, 3, 3)."""
    if not any(isinstance(layer, nn.Conv2d) for layer in backbone.modules()):
        return split
    images = split.inputs.reshape(-1, 3, 3, 4).permute(0, 3, 1, 2).contiguous()
    return Split(images, split.labels)


def line(row: Row, points: int) -> str:
    """One line of the table."""
    each = 1e6 / points
    return (
        f"| {row.name} | {row.verified_vra:.4f} | {row.usual_vra:.4f} "
        f"| {row.usual_vra - row.verified_vra:+.4f} "
        f"| {row.verified_bounds * 1e3:.1f} / {row.usual_bounds * 1e3:.1f} "
        f"| {row.verified_points * each:.1f} / {row.usual_points * each:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the cost of soundness on Satimage.")
    parser.add_argument("--full", action="store_true", help="train by the recipes, not 3 epochs")
    full = parser.parse_args().full
    torch.set_num_threads(1)
    print(
        "| network | VRA, verified | VRA, power method | difference | bounds (ms) | points (us) |"
    )
    print("|---|---|---|---|---|---|")
    for name, (backbone, optimisation) in networks().items():
        train, test = (for_network(landsat(part), backbone) for part in ("train", "test"))
        shape = tuple(train.inputs.shape[1:])
        net = GloRoNet(backbone, RelaxedTopK(k=3, eps=EPS), input_shape=shape)
        epochs = optimisation.epochs if full else 3
        fit(net, train, optimisation.model_copy(update={"epochs": epochs}), seed=0)
        print(line(compare(name, net, test.inputs, test.labels), len(test)))


if __name__ == "__main__":
    main()
