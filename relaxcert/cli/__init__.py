"""Floor 6: the command line. ``relaxcert --help`` lists the commands.

Exit status: 0 ok; 1 a property was not met where that was asked for; 2 bad input; 3 a claim that
does not hold.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from relaxcert import __version__
from relaxcert.cli import (
    attack,
    bounds,
    certify,
    check,
    crosscheck,
    data,
    demo,
    export,
    properties,
    train,
    vnnlib,
)
from relaxcert.cli.common import NOT_MET, NotMet, quiet_warnings
from relaxcert.errors import RelaxcertError

BAD_INPUT = 2
UNSOUND = 3

app = typer.Typer(
    name="relaxcert",
    help="State what a classifier must guarantee, train it in, and prove it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("certify")(certify.certify)
app.command("check")(check.check)
app.command("attack")(attack.attack_command)
app.command("bounds")(bounds.bounds)
app.command("export")(export.export)
app.command("crosscheck")(crosscheck.crosscheck_command)
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
        app()
    except NotMet as failure:
        Console(stderr=True, soft_wrap=True).print(f"not met: {failure}", style="bold")
        sys.exit(NOT_MET)
    except crosscheck.Unsound as failure:
        Console(stderr=True, soft_wrap=True).print(f"unsound: {failure}", style="bold")
        sys.exit(UNSOUND)
    except RelaxcertError as error:
        if _shown.traceback:
            raise
        _fail(str(error))
    except OSError as error:
        if _shown.traceback:
            raise
        _fail(f"{error}: check the path, its permissions and the free space.")


def _fail(message: str) -> NoReturn:
    """One paragraph, whatever the message quotes."""
    text = f"error: {' '.join(message.split())}"
    Console(stderr=True, soft_wrap=True).print(text, markup=False, highlight=False)
    sys.exit(BAD_INPUT)
