"""A layer of one's own with its Lipschitz rule: absolute value, which is 1-Lipschitz.

Its conformance suite compares it with what the layer does: ``pytest examples/custom_layer.py``.
"""

import torch
from torch import Tensor, nn

from relaxcert import GloRoNet, Local
from relaxcert.lipschitz import Bound, Rounding, Rule, rule
from relaxcert.spec import Norm
from relaxcert.testing import RuleConformance


class Absolute(nn.Module):
    """|z|, elementwise."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.abs()


@rule(Absolute)
class AbsoluteRule(Rule[Absolute]):
    """||a| - |b|| <= |a - b| in every coordinate, and taking an absolute value rounds nothing."""

    def verified(self, layer: Absolute, norm: Norm) -> Bound:
        return Bound(1.0, "reverse triangle inequality")

    def estimate(
        self, layer: Absolute, norm: Norm, iterate: Tensor | None
    ) -> tuple[float, Tensor | None]:
        return 1.0, None

    def rounding(self, layer: Absolute, norm: Norm) -> Rounding:
        return Rounding()


class TestAbsolute(RuleConformance):
    input_shape = (4,)

    def make_layer(self) -> nn.Module:
        return Absolute()


def main() -> None:
    torch.manual_seed(0)
    net = GloRoNet(nn.Sequential(nn.Linear(4, 8), Absolute(), nn.Linear(8, 3)), Local(eps=0.05))
    for row in net.lipschitz.table():
        print(f"{row.path}: {row.kind} {row.bound:.6f} ({row.method})")
    print(f"certified: {float(net.certify(torch.rand(100, 4)).certified.float().mean()):.2f}")


if __name__ == "__main__":
    main()
