"""Floor 6: the command line. ``relaxcert --help`` lists the commands.

Exit status: 0 ok; 1 a property was not met where that was asked for; 2 bad input; 3 a claim that
does not hold; 70 a fault of relaxcert itself; 130 Ctrl-C.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console

from relaxcert import __version__
from relaxcert.cli import (
    attack,
    bounds,
    certify,
    check,
    compare,
    crosscheck,
    data,
    demo,
    doctor,
    export,
    models,
    properties,
    report,
    train,
    vnnlib,
)
from relaxcert.cli.common import NOT_MET, NotMet, quiet_warnings
from relaxcert.cli.interrupts import INTERRUPTED, Commands, Interrupted
from relaxcert.errors import RelaxcertError
from relaxcert.training.ranks import launched

BAD_INPUT = 2
UNSOUND = 3
OWN_FAULT = 70  # EX_SOFTWARE of sysexits.h; 1, as Python has it, would say "not met"

app = typer.Typer(
    name="relaxcert",
    cls=Commands,
    help="State what a classifier must guarantee, train it in, and prove it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("models")(models.models)
app.command("certify")(certify.certify)
app.command("check")(check.check)
app.command("compare")(compare.compare_command)
app.command("attack")(attack.attack_command)
app.command("bounds")(bounds.bounds)
app.command("export")(export.export)
app.command("crosscheck")(crosscheck.crosscheck_command)
app.command("doctor")(doctor.doctor)
app.command("report")(report.report)
app.add_typer(properties.app, name="properties")
app.add_typer(vnnlib.app, name="vnnlib")
app.add_typer(data.app, name="data")


@dataclass
class _Shown:
    """How errors are shown; set by the options of this call."""

    traceback: bool = False


_shown = _Shown()


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def settings(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        # Eager: answered before a command is missed.
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options of all commands."""
    _shown.traceback = debug


def main() -> None:
    """Run the command line; errors that the user can mend are one paragraph, without traceback."""
    quiet_warnings()
    try:
        app(prog_name="relaxcert")
    except Exception as problem:
        answer = _answer(problem)
        if _shown.traceback and answer.has_traceback:
            raise
        rank = launched().rank
        text = f"rank {rank}: {answer.text}" if rank else answer.text
        text = " ".join(text.split())  # one paragraph, whatever it quotes
        Console(stderr=True, soft_wrap=True).print(
            text, style=answer.style, markup=False, highlight=False
        )
        sys.exit(answer.status)


@dataclass(frozen=True)
class _Answer:
    """What is said about an exception, and the exit status."""

    status: int
    text: str
    style: str | None = None
    has_traceback: bool = True


def _answer(problem: Exception) -> _Answer:
    match problem:
        case NotMet():
            return _Answer(NOT_MET, f"not met: {problem}", "bold", has_traceback=False)
        case crosscheck.Unsound():
            return _Answer(UNSOUND, f"unsound: {problem}", "bold", has_traceback=False)
        case Interrupted():
            return _Answer(INTERRUPTED, f"interrupted: {problem}", has_traceback=False)
        case RelaxcertError():
            return _Answer(BAD_INPUT, f"error: {problem}")
        case OSError():
            remedy = "check the path, its permissions and the free space."
            return _Answer(BAD_INPUT, f"error: {problem}: {remedy}")
        case MemoryError():
            remedy = "use fewer points at a time (--batch-size, --points)."
            return _Answer(BAD_INPUT, f"error: out of memory: {remedy}")
        case _:
            again = shlex.join(["relaxcert", "--debug", *sys.argv[1:]])
            return _Answer(
                OWN_FAULT,
                f"fault in relaxcert: {type(problem).__name__}: {problem} (please report it with "
                f"what `{again}` and `relaxcert doctor` print)",
            )
