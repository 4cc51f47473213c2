"""Spreading jobs over any ``concurrent.futures.Executor``.

Processes on this machine by default; ``dask.distributed`` offers an executor over a cluster. There
is no scheduler here: jobs are independent, few are in flight, and each result says which points it
is about, so that one that comes twice changes nothing.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar

from relaxcert.errors import InvalidInput, RelaxcertError

Job = TypeVar("Job")
Result = TypeVar("Result")
_AHEAD = 4  # jobs in flight for each worker


class WorkerLost(RelaxcertError, RuntimeError):
    """A worker process died (killed, or out of memory); results so far are kept."""


class MissingCluster(RelaxcertError, ImportError):
    """dask.distributed is not installed."""


def spread(
    jobs: Iterable[Job], work: Callable[[Job], Result], executor: Executor | None, workers: int
) -> Iterator[Result]:
    """The results of all jobs, as they come.

    Args:
        jobs: picklable, independent.
        work: a function at the top of a module.
        executor: where to run; None: in this process, one after another.
        workers: how many workers the executor has; limits the jobs in flight.

    Raises:
        WorkerLost: a worker process died.
    """
    if executor is None:
        yield from map(work, jobs)
        return
    queue = iter(jobs)
    running: set[Future[Result]] = set()
    try:
        while True:
            while len(running) < _AHEAD * workers:
                job = next(queue, None)
                if job is None:
                    break
                running.add(executor.submit(work, job))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BrokenProcessPool as error:
        raise WorkerLost(
            "a worker process died (killed, or out of memory): run the same command again, points "
            "that are done are not done twice; fewer --jobs need less memory."
        ) from error
    finally:
        for future in running:
            future.cancel()


class _Worker(SpawnProcess):
    """A process that leaves Ctrl-C, which a terminal sends to all, to the one that started it."""

    def start(self) -> None:
        """Start with SIGINT blocked, which a child inherits; a handler would come too late."""
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            super().start()
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Spawn(SpawnContext):
    Process = _Worker


@contextmanager
def processes(jobs: int) -> Generator[Executor | None]:
    """Worker processes on this machine; with one job, none but this process.

    Raises:
        InvalidInput: fewer than one job.
    """
    if jobs < 1:
        raise InvalidInput(f"jobs={jobs} must be at least 1.")
    if jobs == 1:
        yield None
        return
    # Spawned, because torch's threads do not survive a fork.
    before = multiprocessing.active_children()
    pool = ProcessPoolExecutor(jobs, mp_context=_Spawn())
    try:
        yield pool
    except KeyboardInterrupt:
        # What they are at may take the whole budget.
        for child in multiprocessing.active_children():
            if child not in before:
                child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def cluster(address: str) -> Generator[tuple[Executor, int]]:
    """An executor over a dask cluster, and how many workers it has (extra ``[cluster]``).

    Raises:
        MissingCluster: dask.distributed is not installed.
        InvalidInput: no scheduler answers at this address.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingCluster(
            "a cluster needs dask.distributed: pip install 'relaxcert[cluster]'."
        ) from error
    try:
        client: Any = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"scheduler={address!r} does not answer ({error}): give the address that "
            "'dask scheduler' prints, such as tcp://host:8786."
        ) from error
    try:
        yield client.get_executor(), max(1, len(client.scheduler_info()["workers"]))
    finally:
        client.close()
