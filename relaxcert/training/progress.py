"""A progress bar with rate and estimate, silent unless a person is watching."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def bar(*, enabled: bool = True) -> Progress:
    """A bar on standard error: what, how far, elapsed, remaining; gone when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not (enabled and sys.stderr.isatty()),
    )


class EpochBar:
    """One step an epoch, with the latest loss and validation VRA."""

    def __init__(self, epochs: int, *, done: int = 0, enabled: bool = True) -> None:
        self._bar = bar(enabled=enabled)
        self._task = self._bar.add_task("training", total=epochs, completed=done)

    def advance(self, loss: float, vra: float | None) -> None:
        """One epoch is done."""
        shown = "" if vra is None else f", validation VRA {vra:.3f}"
        self._bar.update(self._task, advance=1, description=f"training: loss {loss:.4f}{shown}")

    def __enter__(self) -> EpochBar:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
