"""Ctrl-C: what is left behind, and how to go on."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from typer.core import TyperGroup

INTERRUPTED = 130  # 128 + SIGINT, as shells count


class Interrupted(Exception):
    """The user pressed Ctrl-C; says on one line how to go on."""


class Commands(TyperGroup):
    """Commands that Ctrl-C ends with a sentence instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise Interrupted(
                f"nothing was left half-written; start again with: {this_command()}"
            ) from stop


@contextmanager
def resumable(how: Callable[[], str]) -> Generator[None]:
    """Turn Ctrl-C into ``Interrupted(how())``; ``how`` is asked when it happens.

    Raises:
        Interrupted: Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Interrupted(how()) from stop


def this_command(*more: str) -> str:
    """The command line as it was typed, with options that it lacks."""
    typed = sys.argv[1:]
    return shlex.join(["relaxcert", *typed, *(word for word in more if word not in typed)])
