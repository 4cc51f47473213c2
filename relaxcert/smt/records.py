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
_FOUND = ("answer", "finding", "certified")
_ANSWERS = ("certified", "falsified", "unknown")
_FINDINGS = ("consistent", "violation", "fault")


class Records:
    """One file: a header that says what was checked, then one record a point and property.

    Args:
        path: the file; None keeps records in memory only.
        header: what identifies the run. An existing file must have the same.
        points, properties: how many of each there are.

    Raises:
        DataError: the file belongs to another run, or is not such a file.
    """

    def __init__(
        self, path: str | Path | None, header: Record, points: int, properties: int
    ) -> None:
        self.path = None if path is None else Path(path)
        self.sizes = {"index": points, "property": properties}
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

    def complete(self) -> set[int]:
        """The points at which all properties are done."""
        counts = Counter(index for index, _ in self.done)
        return {index for index, count in counts.items() if count == self.sizes["property"]}

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
            self._check(record, f"{path}, line {number}")
            if _place(record) in self.done:
                raise DataError(
                    f"{path}, line {number}: a second result of point {record['index']}: did two "
                    "runs write at once? Remove the file, or give another name."
                )
            self.done[_place(record)] = record
        if torn:  # a run that was killed while it wrote
            write_text(path, complete + "\n")

    def _check(self, record: Record, where: str) -> None:
        """What is counted as done is not judged again, so it must be a result of this run."""
        for name, size in self.sizes.items():
            value = record.get(name)
            if type(value) is not int or not 0 <= value < size:
                raise DataError(
                    f"{where}: field {name!r} is {str(value)[:40]!r}, expected a whole number from "
                    f"0 to {size - 1}: remove the file, or give another name."
                )
        answer, finding, certified = (record.get(name) for name in _FOUND)
        broken = certified is True and answer == "falsified"
        known = type(certified) is bool and answer in _ANSWERS and finding in _FINDINGS
        if not known or broken != (finding == "violation"):
            raise DataError(
                f"{where}: certified={certified!r:.40}, answer={answer!r:.40} and "
                f"finding={finding!r:.40} are no result of a cross-check: remove the file, or give "
                "another name."
            )


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
