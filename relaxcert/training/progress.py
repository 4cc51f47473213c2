"""A progress bar with rate and estimate, silent unless a person is watching."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """Steps a second, or seconds a step where that is more than one."""

    def render(self, task: Task) -> Text:
        """The rate so far; empty before the first step."""
        seconds, steps = task.elapsed or 0.0, task.completed - task.fields.get("before", 0)
        if not steps or not seconds:
            return Text("")
        rate = steps / seconds
        return Text(f"{rate:,.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each")


def bar(*, enabled: bool = True) -> Progress:
    """A bar on standard error: what, how far, how fast, elapsed, remaining; gone when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
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
        self._task = self._bar.add_task("training", total=epochs, completed=done, before=done)

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
