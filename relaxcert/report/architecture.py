"""A network in figures: layers with shapes and weights, operations of one forward pass."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from relaxcert.lipschitz.structure import in_eval_mode
from relaxcert.lipschitz.tracing import trace


@dataclass(frozen=True)
class LayerLine:
    """One step of the computation: its place, kind, output shape of one point, and weights."""

    path: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


def layer_lines(backbone: nn.Module, shape: tuple[int, ...]) -> list[LayerLine]:
    """The layers, sums and concatenations in the order of computation, for points of one shape.

    Raises:
        UnsupportedLayer, InvalidInput: the backbone, or its input shape, does not fit.
    """
    with in_eval_mode(backbone):
        nodes = trace(backbone).with_shapes(shape).nodes[1:]
    seen: set[int] = set()
    lines: list[LayerLine] = []
    for node in nodes:
        fresh = [] if node.layer is None else list(node.layer.parameters())
        count = sum(p.numel() for p in fresh if id(p) not in seen)
        seen |= {id(p) for p in fresh}
        lines.append(LayerLine(node.name, node.title, node.shape or (), count))
    return lines


def parameters_of(backbone: nn.Module) -> int:
    """The number of weights, each once."""
    return sum(p.numel() for p in backbone.parameters())


def flops_of(backbone: nn.Module, shape: tuple[int, ...]) -> int:
    """Floating-point operations of the products in one forward pass of one point, by torch's count.

    A multiplication and an addition are two. Activations, sums and the head are not counted.
    """
    twin = copy.deepcopy(backbone).to("meta").eval()
    dtype = next((p.dtype for p in twin.parameters()), torch.float32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(torch.zeros(1, *shape, dtype=dtype, device="meta"))
    return counter.get_total_flops()


def in_bytes(count: int) -> str:
    """A number of bytes, for people: 3.2 MiB."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024.0:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024.0
    return f"{size:.2f} GiB"


def in_thousands(count: int) -> str:
    """A large number, for people: 1.23 M."""
    size = float(count)
    for unit in ("", " k", " M", " G"):
        if size < 1000.0:
            return f"{count}" if not unit else f"{size:.3g}{unit}"
        size /= 1000.0
    return f"{size:.3g} T"
