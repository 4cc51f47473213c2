"""Reading TOML that somebody else wrote: small, UTF-8, not nested without end."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import cast

from relaxcert.errors import DocumentError

MAX_BYTES = 1 << 20
MAX_DEPTH = 64


def read_text(path: str | Path) -> str:
    """Return the text of a UTF-8 file of at most 1 MiB.

    Raises:
        DocumentError: the file is missing, unreadable, too large or not UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise DocumentError(f"{path}: no such file; check the path.") from error
    except (OSError, ValueError) as error:
        raise DocumentError(
            f"{path}: cannot be read ({error}); give the path of a readable TOML file."
        ) from error
    if len(content) > MAX_BYTES:
        raise DocumentError(
            f"{path}: the file is larger than 1 MiB, which no such document needs; "
            "check that it is the right file."
        )
    try:
        # A byte order mark, which some editors put first, is no part of the text.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{path}: byte {error.start} is not UTF-8; save the file with the encoding UTF-8."
        ) from error


def parse_toml(text: str, origin: str) -> dict[str, object]:
    """Return the table that ``text`` denotes; ``origin`` names the text in errors.

    Raises:
        DocumentError: the text is not TOML, or is nested more than 64 deep.
    """
    try:
        data: dict[str, object] = tomllib.loads(text)
    except RecursionError as error:
        raise too_deep(origin) from error
    except ValueError as error:
        raise DocumentError(
            f"{origin}: not valid TOML: {error}; correct the text there."
        ) from error
    check_depth(data, origin)
    return data


def check_depth(data: object, origin: str) -> None:
    """Raise DocumentError if plain data is nested so deep that working through it is unsafe."""
    level: list[object] = [data]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in children(value).values()]
        if not level:
            return
    raise too_deep(origin)


def children(value: object) -> dict[str | int, object]:
    """The entries of a table by key or of an array by position; nothing for a plain value."""
    if isinstance(value, dict):
        return dict(cast("dict[str | int, object]", value))
    if isinstance(value, list):
        return dict(enumerate(cast("list[object]", value)))
    return {}


def too_deep(origin: str) -> DocumentError:
    """The error for data nested without end."""
    return DocumentError(
        f"{origin}: nested more than {MAX_DEPTH} deep; write the property with fewer levels."
    )
