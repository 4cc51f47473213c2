"""The reference of the command line as Markdown, from the commands themselves."""

from __future__ import annotations

import inspect
import re
from typing import Any

import typer.main

from relaxcert.cli import app

_START = """# Command line

Made from the commands when this site is built; `relaxcert COMMAND --help` says the same.

Exit status: 0 ok; 1 a requirement is not met; 2 bad input, answered by one paragraph; 3 a claim
that does not hold; 70 a fault of relaxcert; 130 Ctrl-C, with the command that goes on.

`relaxcert --debug COMMAND` shows the traceback of an error. `relaxcert --install-completion`
teaches your shell to complete commands and options. Progress goes to standard error, and only
where that is a terminal; `--json` prints what a program reads.
"""


def cli_page() -> str:
    """The whole page."""
    return "\n".join([_START, *_group(typer.main.get_command(app), "relaxcert")])


def _group(group: Any, path: str) -> list[str]:
    parts: list[str] = []
    for name, command in sorted(group.commands.items()):
        parts.append(_command(command, f"{path} {name}"))
        if getattr(command, "commands", None):
            parts += _group(command, f"{path} {name}")
    return parts


def _command(command: Any, path: str) -> str:
    text = inspect.cleandoc(command.help or "")
    text = re.sub(r"\[bold\](.*?)\[/bold\]", _example, text, flags=re.DOTALL)
    level = "#" * len(path.split())
    lines = [f"{level} {path}", "", text, ""]
    rows = [_row(parameter) for parameter in command.params if not parameter.hidden]
    if rows:
        lines += ["| | default | |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _example(match: re.Match[str]) -> str:
    return f"`{' '.join(match[1].split())}`"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    else:
        shown = [*parameter.opts, *parameter.secondary_opts]
        value = "" if parameter.is_flag else f" {parameter.name.strip('_').upper()}"
        names = f"`{', '.join(shown)}{value}`"
    default = parameter.default
    plain = isinstance(default, str | int | float) and not isinstance(default, bool)
    shown_default = f"`{default}`" if plain or hasattr(default, "parts") else ""
    if parameter.required:
        shown_default = "required"
    about = " ".join((parameter.help or "").split()).replace("|", "\\|")
    return f"| {names} | {shown_default} | {about} |"
