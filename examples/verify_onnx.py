"""Certify a network that someone else trained and saved as ONNX; let an exact solver judge it.

relaxcert certify net.onnx --property mine.toml --data points.npz      # the same by command
"""

import tempfile
from pathlib import Path

import torch
from torch import nn

from relaxcert import GloRoNet, Local, crosscheck
from relaxcert.interop import export_backbone, load_onnx


def someone_elses_network(path: Path) -> Path:
    """A small ReLU network, trained to name the corner of the square that is nearest."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 4))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(300):
        points = torch.rand(256, 2)
        labels = (points > 0.5).long() @ torch.tensor([1, 2])
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(points), labels).backward()
        optimizer.step()
    return export_backbone(network, path)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        backbone = load_onnx(someone_elses_network(Path(name) / "net.onnx"))
    net = GloRoNet(backbone, Local(eps="0.05"))
    for row in net.lipschitz.table():
        print(f"{row.path}: {row.kind}, bound {row.bound:.4f} ({row.method})")
    points = torch.rand(40, 2)
    certified = net.certify(points).certified
    print(f"the head certifies {int(certified.sum())} of {len(points)} points")
    # The product of layer bounds is loose for a network that was not trained with it. z3 is exact.
    judged = crosscheck(net, points, budget="5s").summary()
    print(f"z3 agrees with {judged['both_certify']}, contradicts {judged['violations']}")
    print(f"and proves {judged['rejected_but_holds']} that the head had to reject")
    both = net.certify(points, escalate="z3").certified
    print(f"head and solver together certify {int(both.sum())}")


if __name__ == "__main__":
    main()
