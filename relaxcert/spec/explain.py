"""Turning what pydantic finds wrong in a document into one sentence that a person can act on."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from relaxcert.errors import DocumentError, InvalidProperty, suggestion
from relaxcert.spec.toml import children

FieldsOf = Callable[[Mapping[str | int, object]], Iterable[str]]

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


class FieldError(ValueError):
    """Something wrong at one field of a document: the field's dotted path, and what it is."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


@contextmanager
def at(field: str) -> Generator[None]:
    """Say of every error about a property that it happened at ``field``; nests outwards."""
    try:
        yield
    except FieldError as error:
        raise FieldError(f"{field}.{error.path}", error.problem) from error
    except InvalidProperty as error:
        raise FieldError(field, str(error)) from error


def explain(
    error: ValidationError,
    data: object,
    *,
    origin: str,
    fields_of: FieldsOf,
    hints: Mapping[str, str],
) -> DocumentError:
    """Return the DocumentError for the most telling problem in ``error``.

    Args:
        error: what pydantic raised.
        data: the plain data that it was given.
        origin: the file, or another name for where ``data`` is from.
        fields_of: for a table in ``data``, the names of the fields it may have.
        hints: for a field's name, an example of how to write it.
    """
    # A misspelt field is reported twice, as unknown and as missing: the first says more.
    problems = sorted(
        error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden"
    )
    found = problems[0]
    keys, parent, value = _walk(data, found)
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        return DocumentError(f"{origin}: {_dotted([*keys, cause.path])}: {cause.problem}")
    path = _dotted(keys)
    if isinstance(cause, ValueError):
        return DocumentError(f"{origin}: {path or 'the document'}: {cause}")
    sentence = _sentence(found, path, parent, value, fields_of)
    hint = hints.get(next((key for key in reversed(keys) if isinstance(key, str)), ""), "")
    return DocumentError(f"{origin}: {sentence}" + (f" Write {hint}." if hint else ""))


def _sentence(
    found: ErrorDetails,
    path: str,
    parent: Mapping[str | int, object],
    value: object,
    fields_of: FieldsOf,
) -> str:
    match found["type"]:
        case "missing" | "union_tag_not_found":
            return f"{path} is missing: add it."
        case "union_tag_invalid":
            context = found.get("ctx", {})
            tag, expected = str(context.get("tag")), str(context.get("expected_tags"))
            known = [word.strip(" '") for word in expected.split(",")]
            return (
                f"{path}={shorten(tag)} is not a known kind.{suggestion(tag, known)} "
                f"Known kinds: {', '.join(known)}."
            )
        case "extra_forbidden":
            known = list(fields_of(parent))
            name = path.rpartition(".")[2]
            return (
                f"{path}={shorten(value)} is not a known field: remove it or correct its name."
                f"{suggestion(name, known)} Fields here: {', '.join(known)}."
            )
        case _:
            problem = found["msg"].replace("valid tuple", "list")
            return f"{path or 'the document'}={shorten(value)} does not fit: {problem}."


def shorten(value: object) -> str:
    """The ``repr`` of anything, cut to a length that fits in a sentence."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer of more digits than Python is willing to print
        return f"<a {type(value).__name__} too long to show>"


def _walk(
    data: object, found: ErrorDetails
) -> tuple[list[str | int], Mapping[str | int, object], object]:
    """Follow an error's location through the data, skipping pydantic's names of union members."""
    keys: list[str | int] = []
    parent = here = children(data)
    value = data
    for key in found["loc"]:
        if key in here:
            parent, value = here, here[key]
            here = children(value)
            keys.append(key)
    if found["type"] == "missing":
        keys.append(found["loc"][-1])
    if found["type"].startswith("union_tag"):
        keys.append("kind")
    return keys, parent, value


def _dotted(keys: Iterable[str | int]) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text
