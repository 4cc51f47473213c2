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
from relaxcert.heads.links import EstimatedLinks
from relaxcert.nn import dense
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
    """A recipe's near-orthogonal network, and a plain one, whose spectra are spread."""
    recipe = load_recipe("landsat-rt3")
    plain = recipe.optimisation.model_copy(update={"orthogonal": False})
    torch.manual_seed(0)
    return {
        "3 x 64 MinMax, orthogonal": (recipe.architecture.build(36, 6), recipe.optimisation),
        "3 x 64 MinMax, plain": (dense(36, [64, 64, 64], 6), plain),
        "3 x 128 MinMax, plain": (dense(36, [128, 128, 128], 6), plain),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the cost of soundness on Satimage.")
    parser.add_argument("--full", action="store_true", help="train by the recipes, not 3 epochs")
    full = parser.parse_args().full
    torch.set_num_threads(1)
    train, test = landsat("train"), landsat("test")
    print(
        "| network | VRA, verified | VRA, power method | difference | bounds (ms) | points (us) |"
    )
    print("|---|---|---|---|---|---|")
    for name, (backbone, optimisation) in networks().items():
        net = GloRoNet(backbone, RelaxedTopK(k=3, eps=EPS))
        epochs = optimisation.epochs if full else 3
        fit(net, train, optimisation.model_copy(update={"epochs": epochs}), seed=0)
        row = compare(name, net, test.inputs, test.labels)
        per_point = 1e6 / len(test)
        print(
            f"| {row.name} | {row.verified_vra:.4f} | {row.usual_vra:.4f} "
            f"| {row.usual_vra - row.verified_vra:+.4f} "
            f"| {row.verified_bounds * 1e3:.1f} / {row.usual_bounds * 1e3:.1f} "
            f"| {row.verified_points * per_point:.1f} / {row.usual_points * per_point:.1f} |"
        )


if __name__ == "__main__":
    main()
