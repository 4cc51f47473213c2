"""The finished network: nn.Sequential for a chain of layers, else a module with a list of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from relaxcert.interop.onnx_import.builder import Builder, Step


class ImportedNetwork(nn.Module):
    """A network with branches, as a fixed list of steps over layers.

    Args:
        steps: in order of computation, the input first; the last one gives the output.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([step.layer for step in steps if step.layer is not None])
        # Plain data, so that a proof notices if it is changed.
        self.steps = tuple((step.kind, step.operands, step.sign) for step in steps[1:])

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, ...) -> (batch, classes)."""
        values = [inputs]
        layers = iter(self.layers)
        for kind, operands, sign in self.steps:
            first = values[operands[0]]
            if kind == "layer":
                values.append(next(layers)(first))
            elif kind == "concatenation":
                values.append(torch.cat([values[place] for place in operands], dim=sign))
            elif sign > 0:
                values.append(first + values[operands[1]])
            else:
                values.append(first - values[operands[1]])
        return values[-1]


def module_of(build: Builder, output: int) -> nn.Module:
    """The network that ends in step ``output``, in eval mode, without what it does not need."""
    needed = {0, output}
    for place in range(output, 0, -1):
        if place in needed:
            needed.update(build.steps[place].operands)
    kept = sorted(needed)
    moved = {place: index for index, place in enumerate(kept)}
    steps = [
        replace(build.steps[place], operands=tuple(moved[o] for o in build.steps[place].operands))
        for place in kept
    ]
    layers = [step.layer for step in steps[1:] if step.layer is not None]
    chain = all(
        step.kind == "layer" and step.operands == (place,) for place, step in enumerate(steps[1:])
    )
    network = nn.Sequential(*layers) if chain else ImportedNetwork(steps)
    return network.eval()
