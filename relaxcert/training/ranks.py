"""The processes that work on one run together: which this is, and what they exchange.

torchrun starts them (``torchrun --nproc-per-node N -m relaxcert ...``); without it there is one.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from relaxcert.errors import InvalidInput, TrainingError

# A rank may wait for another's whole work; torchrun itself ends all of them when one fails.
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Ranks:
    """This process is ``rank`` of ``count``, numbered from 0."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this rank writes files and shows progress."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks, on each of them; the shape of ``values``, which may change."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def take_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors`` with those of rank 0."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def check_same(self, name: str, value: int, device: torch.device) -> None:
        """Raise TrainingError on all ranks unless each has the same ``value``."""
        if self.count == 1:
            return
        # max(v) and max(-v) = -min(v)
        ends = torch.tensor([value, -value], device=device)
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        highest, lowest = int(ends[0]), -int(ends[1])
        if highest != lowest:
            raise TrainingError(
                f"the ranks differ in {name} ({lowest} to {highest}, {value} here): give all of "
                "them the same options, and a folder that all of them see."
            )

    def wait(self) -> None:
        """Go on when all ranks have come here."""
        if self.count > 1:
            dist.barrier()


def present_ranks() -> Ranks:
    """The process group that was joined, or one process alone."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return Ranks()


def launched() -> Ranks:
    """What torchrun says in the environment, without joining."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    return Ranks(int(os.environ.get("RANK", "0")), count) if count > 1 else Ranks()


@contextmanager
def joined(device: str) -> Generator[str]:
    """Join the processes that torchrun started, for a while; yields the device of this one.

    gloo on CPUs, NCCL between GPUs, of which each process takes that of its LOCAL_RANK. Nothing
    happens in a process that was not started by torchrun.

    Raises:
        InvalidInput: one GPU by number for several processes.
    """
    if launched().count == 1:
        yield device
        return
    kind, _, number = device.partition(":")
    if kind == "cuda":
        if number:
            raise InvalidInput(
                f"--device {device} is one GPU for {launched().count} processes: give --device "
                "cuda, and each takes the GPU of its LOCAL_RANK."
            )
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        if torch.cuda.is_available():
            torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" and torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()
