"""Run a function in several processes that exchange tensors by gloo.

A server that has loaded everything beforehand forks them, so that a test takes a second; it has
never run autograd, whose threads do not survive a fork on machines with a GPU.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_SECONDS = 120


def in_ranks(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """``work(*arguments)`` in each of ``count`` ranks; what they return, in order.

    ``work`` is a function of a module, and returns what can be pickled; tensors as numpy arrays.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed", "tests.training.test_ranks"])
    with tempfile.TemporaryDirectory() as folder:
        ends, processes = [], []
        for rank in range(count):
            mine, theirs = context.Pipe(duplex=False)
            given = (theirs, Path(folder) / "store", rank, count, work, arguments)
            processes.append(context.Process(target=_rank, args=given))
            ends.append(mine)
            processes[-1].start()
            theirs.close()
        try:
            answers = [end.recv() if end.poll(_SECONDS) else "it hangs" for end in ends]
        finally:
            for process in processes:
                process.join(5)
                if process.is_alive():
                    process.kill()
                    process.join()
    failures = [answer for answer in answers if isinstance(answer, str)]
    assert not failures, "\n".join(failures)
    return [answer[0] for answer in answers]


def _rank(
    end: Connection,
    store: Path,
    rank: int,
    count: int,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=count,
            timeout=timedelta(seconds=_SECONDS),
        )
        end.send((work(*arguments),))
        dist.destroy_process_group()
    except BaseException:
        end.send(f"rank {rank}:\n{traceback.format_exc()}")
        raise
