"""What a training run will do, before it does it: steps, values of the schedules, memory."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.training.recipe import Optimisation

_DRAWN = 201  # values of a schedule, both ends included


@dataclass(frozen=True)
class Memory:
    """What a step needs, in bytes; temporary results and the framework itself are not counted.

    Attributes:
        state: weights, their gradient and the two moments of Adam, and buffers.
        saved: what the forward pass of one batch keeps for the backward pass.
        data: the training data, where they lie in memory as numbers.
    """

    state: int
    saved: int
    data: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.state + self.saved + self.data


def schedules(settings: Optimisation) -> dict[str, list[float]]:
    """Learning rate and, for TRADES, its weight at ``_DRAWN`` equal steps of the training time."""
    found = {"learning rate": settings.learning_rate}
    if settings.loss == "trades" and settings.trades_weight is not None:
        found["TRADES weight"] = settings.trades_weight
    times = [index / (_DRAWN - 1) for index in range(_DRAWN)]
    return {name: [schedule.at(t) for t in times] for name, schedule in found.items()}


def memory_of(
    net: GloRoNet, points: Tensor, batch_size: int, data: int, *, bf16: bool = False
) -> Memory:
    """Estimate what a training step needs, without taking it.

    The forward pass runs on two and on four points; what autograd then keeps grows linearly:

        saved(n) = saved(2) + (n - 2) (saved(4) - saved(2)) / 2

    (a little too much, since the head takes another way through few points).

    Args:
        net: the network that is optimised; a copy of it runs.
        points: at least one, (points, ...); repeated if there are fewer than four.
        batch_size: points of one batch that go through the network at once.
        data: bytes of the training data.
        bf16: whether the backbone runs in bf16.
    """
    twin = copy.deepcopy(net).train()
    few = points.repeat(4, *[1] * (points.dim() - 1))[:4]
    two, four = (_saved_bytes(twin, few[:count].clone(), bf16) for count in (2, 4))
    saved = max(0, two + (batch_size - 2) * (four - two) // 2)
    weights = sum(p.numel() * p.element_size() for p in net.backbone.parameters())
    buffers = sum(b.numel() * b.element_size() for b in net.buffers())
    return Memory(4 * weights + buffers, saved, data)


def _saved_bytes(net: GloRoNet, points: Tensor, bf16: bool) -> int:
    """The bytes that autograd keeps of one forward pass, each storage once, weights left out."""
    known = {tensor.untyped_storage().data_ptr() for tensor in net.parameters()}
    sizes: dict[int, int] = {}
    kept: list[Tensor] = []  # alive, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    def unpack(tensor: Any) -> Any:
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, unpack)
    precision = torch.autocast(points.device.type, dtype=torch.bfloat16, enabled=bf16)
    with torch.random.fork_rng(devices=[]), hooks, precision:
        outputs = net(points)
    del outputs
    return sum(sizes.values())
