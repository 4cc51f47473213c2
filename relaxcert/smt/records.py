"""Results as JSON lines: appended as they come, read back when a run is resumed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from relaxcert.errors import DataError
from relaxcert.files import write_text

Record = dict[str, Any]


class Records:
    """One file: a header that says what was checked, then one record a point and property.

    Args:
        path: the file; None keeps records in memory only.
        header: what identifies the run. An existing file must have the same.

    Raises:
        DataError: the file belongs to another run, or is not such a file.
    """

    def __init__(self, path: str | Path | None, header: Record) -> None:
        self.path = None if path is None else Path(path)
        self.done: dict[tuple[int, int], Record] = {}  # by index and property
        if self.path is None:
            return
        if self.path.exists() and self.path.stat().st_size:
            self._resume(self.path, header)
        else:
            write_text(self.path, json.dumps(header) + "\n")

    def add(self, records: Iterable[Record]) -> list[Record]:
        """Append what is new (by index and property); returns that."""
        fresh = [record for record in records if _place(record) not in self.done]
        self.done.update({_place(record): record for record in fresh})
        if self.path is not None and fresh:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(record) + "\n" for record in fresh))
        return fresh

    def complete(self, properties: int) -> set[int]:
        """The points at which all of so many properties are done."""
        counts = Counter(index for index, _ in self.done)
        return {index for index, count in counts.items() if count == properties}

    def _resume(self, path: Path, header: Record) -> None:
        content = path.read_text("utf-8", errors="replace")
        complete, _, torn = content.rpartition("\n")
        lines = complete.split("\n")
        found = _parsed(lines[0], path, 1)
        different = [key for key in header if found.get(key) != header[key]]
        if different:
            key = different[0]
            raise DataError(
                f"{path} holds results of another run: its {key} is {str(found.get(key))[:80]!r}, "
                f"this run's is {str(header[key])[:80]!r}. Give another file, or remove this one."
            )
        for number, line in enumerate(lines[1:], 2):
            record = _parsed(line, path, number)
            for name in ("index", "property"):
                if not isinstance(record.get(name), int):
                    raise DataError(f"{path}, line {number}: no whole number in field {name!r}.")
            self.done[_place(record)] = record
        if torn:  # a run that was killed while it wrote
            write_text(path, complete + "\n")


def _place(record: Record) -> tuple[int, int]:
    return record["index"], record["property"]


def _parsed(line: str, path: Path, number: int) -> Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, line {number}: not JSON ({error}); give a file that a cross-check wrote, or "
            "another name."
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{path}, line {number}: expected an object, got {line[:40]!r}.")
    return {str(key): entry for key, entry in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
