"""S-expressions with positions: a strict, small reader of untrusted text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relaxcert.errors import DocumentError

MOST_BYTES = 64 * 2**20
MOST_DEPTH = 32

# Comments, blanks, brackets, symbols and numbers; nothing else is VNN-LIB 1.0.
_TOKEN = re.compile(r";[^\n]*|\s+|[()]|[^\s();|\"]+")


@dataclass(frozen=True, slots=True)
class Atom:
    """A symbol or number, and where it stands (both from 1)."""

    text: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Branch:
    """A bracketed list, and where its opening bracket stands."""

    items: tuple[Expression, ...]
    line: int
    column: int


Expression = Atom | Branch


def read_file(path: str | Path) -> str:
    """The text of an ASCII or UTF-8 file of at most 64 MiB.

    Raises:
        DocumentError: missing, unreadable, too large, or not UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise DocumentError(f"{path}: no such file; check the path.") from error
    except (OSError, ValueError) as error:
        raise DocumentError(f"{path}: cannot be read ({error}); give a VNN-LIB file.") from error
    if len(content) > MOST_BYTES:
        raise DocumentError(f"{path}: larger than {MOST_BYTES >> 20} MiB; split the file.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{path}: byte {error.start} is not UTF-8; if the file is compressed, unpack it first."
        ) from error


def parse_expressions(text: str, origin: str) -> list[Branch]:
    """The bracketed expressions of a text, in order; ``origin`` names it in errors.

    Raises:
        DocumentError: brackets that do not match, nesting beyond 32, or a character that VNN-LIB
            does not have; with line and column.
    """
    found: list[Branch] = []
    unfinished: list[tuple[Atom, list[Expression]]] = []
    for token in _tokens(text, origin):
        if token.text == "(":
            if len(unfinished) == MOST_DEPTH:
                raise at(origin, token, f"nested more than {MOST_DEPTH} deep")
            unfinished.append((token, []))
        elif token.text == ")":
            if not unfinished:
                raise at(origin, token, "a closing bracket without an opening one")
            begin, items = unfinished.pop()
            branch = Branch(tuple(items), begin.line, begin.column)
            (unfinished[-1][1] if unfinished else found).append(branch)
        elif unfinished:
            unfinished[-1][1].append(token)
        else:
            raise at(origin, token, f"{token.text[:40]!r} stands outside of brackets")
    if unfinished:
        raise at(origin, unfinished[-1][0], "this bracket is never closed")
    return found


def _tokens(text: str, origin: str) -> Iterator[Atom]:
    """Brackets, symbols and numbers with their places; comments and blanks are skipped."""
    line, line_start, position = 1, 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        place = Atom("", line, position - line_start + 1)
        if match is None:
            raise at(origin, place, f"unexpected character {text[position]!r}")
        token = match.group()
        if not token.isspace() and token[0] != ";":
            yield Atom(token, place.line, place.column)
        breaks = token.count("\n")
        if breaks:
            line += breaks
            line_start = position + token.rindex("\n") + 1
        position = match.end()


def at(origin: str, place: Expression, what: str) -> DocumentError:
    """An error with its place: ``file:line:column: what``."""
    return DocumentError(f"{origin}:{place.line}:{place.column}: {what}.")
