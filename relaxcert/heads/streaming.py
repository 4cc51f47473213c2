"""A look ahead in any iterable of batches: the next is fetched while one is in work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def prefetched(items: Iterable[Item], ahead: int = 1) -> Iterator[Item]:
    """Yield ``items`` in order; a thread fetches up to ``ahead`` of them beforehand.

    The thread alone touches the iterator, so that it need not be safe for several. An exception of
    the iterator comes out where its item would have. Not more than ``ahead`` + 1 items are alive.
    """
    if ahead < 1:
        yield from items
        return
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="relaxcert-prefetch") as pool:
        waiting: list[Future[object]] = [pool.submit(next, iterator, _END) for _ in range(ahead)]
        try:
            while (item := waiting.pop(0).result()) is not _END:
                waiting.append(pool.submit(next, iterator, _END))
                yield item  # pyright: ignore[reportReturnType]
        finally:
            for future in waiting:
                future.cancel()
