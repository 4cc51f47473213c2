"""What an attack and a solver said of the same network and property, if they were asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from relaxcert.errors import DataError
from relaxcert.report.records import Attacked, CrossChecked, Record
from relaxcert.report.run import Run
from relaxcert.report.verdicts import ATTACK

CROSSCHECK, CROSSCHECK_LINES = "crosscheck.json", "crosscheck.jsonl"
_MOST = 2**24  # bytes

Kind = TypeVar("Kind", bound=Record)


def read_attack(run: Run, path: Path | None = None) -> Attacked | None:
    """What ``relaxcert attack`` found; by default from the run's own folder, if it is there.

    Raises:
        DataError: no such file, not such a file, or about another property or other weights.
    """
    file = run.folder / ATTACK if path is None else path
    if path is None and not file.is_file():
        return None
    found = _read(file, Attacked)
    _same(file, "property", found.digest, run.summary.digest)
    _same(file, "weights", found.weights_sha256, run.summary.weights_sha256)
    return found


def read_crosscheck(run: Run, path: Path | None = None) -> CrossChecked | None:
    """What ``relaxcert crosscheck`` found; ``path`` is its ``--out`` folder.

    Raises:
        DataError: no such file, not such a file, or about another property or other weights.
    """
    folder = run.folder if path is None else path
    if path is None and not (folder / CROSSCHECK).is_file():
        return None
    found = _read(folder / CROSSCHECK, CrossChecked)
    _same(folder / CROSSCHECK, "property", found.digest, run.summary.digest)
    lines = folder / CROSSCHECK_LINES
    if found.weights_sha256 is not None:
        _same(folder / CROSSCHECK, "weights", found.weights_sha256, run.summary.weights_sha256)
    elif not lines.is_file():
        raise DataError(
            f"{folder / CROSSCHECK} does not say of which weights it is, and {CROSSCHECK_LINES} "
            "is not beside it: cross-check again, or copy both files."
        )
    if lines.is_file():
        with lines.open(encoding="utf-8", errors="replace") as file:
            header = file.readline(_MOST)
        try:
            weights = dict(json.loads(header)).get("weights")
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{lines}, line 1: not the header of a cross-check.") from error
        _same(lines, "weights", str(weights), run.summary.weights_sha256)
    return found


def _read(path: Path, kind: type[Kind]) -> Kind:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    if path.stat().st_size > _MOST:
        raise DataError(f"{path}: {path.stat().st_size} bytes, far more than expected.")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, found["loc"]))
        raise DataError(f"{path}: field {field}: {found['msg']}.") from error


def _same(path: Path, what: str, found: str, expected: str) -> None:
    if found != expected:
        raise DataError(
            f"{path} is about another {what} ({found[:12]}...) than the verdicts "
            f"({expected[:12]}...): give the file that belongs to them."
        )
