"""Reading a certificate file: JSON lines, one text for one meaning, sealed by a SHA-256.

    {"format":"relaxcert-certificate","version":2,"level":"R","property":{...},"digest":...,
     "weights":...,"inputs":...,"points":N,"certified":M,"kind":"header"}
    {"kind":"bound","layer":"0","norm":"l2","bound":1.25,"exponent":0,"factor":"<base64>"} ...
    {"kind":"point","index":0,"input":...,"margin":...,"radius":...,"k":...,"set":[...],...} ...
    {"kind":"end","sha256":"<of all bytes before this line>"}

Every line must be the canonical JSON of its value (sorted keys, no spaces, ASCII).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relaxcert.checker.outcome import Rejected, Unreadable

LIMIT = 2**30  # bytes of a file that are read into memory
NORMS = ("l2", "linf", "l1")
Fields = dict[str, Any]

# What a field may be: a type, a text of a pattern, a list of integers, or one of several values
# and types.
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_HEADER: Fields = {
    "kind": ("header",), "format": ("relaxcert-certificate",), "version": (2,), "level": ("R",),
    "property": dict, "digest": _HASH, "weights": _HASH, "inputs": _HASH,
    "points": int, "certified": int,
}  # fmt: skip
_BOUND: Fields = {
    "kind": ("bound",), "layer": str, "norm": NORMS, "bound": float, "exponent": int,
    "factor": (str, None),
}  # fmt: skip
_POINT: Fields = {
    "kind": ("point",), "index": int, "input": _HASH, "margin": float,
    "radius": (float, "inf", None), "k": (int, None), "set": ([int], None),
    "strictest_k": (int, None), "strictest_set": ([int], None),
}  # fmt: skip
_END: Fields = {"kind": ("end",), "sha256": _HASH}


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate whose form is right; nothing in it is believed yet.

    ``bounds`` by norm and layer; header, bounds and points as in the file.
    """

    header: Fields
    bounds: dict[tuple[str, str], Fields]
    points: list[Fields]


def canonical(value: object) -> str:
    """The one text of a JSON value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def check_size(path: Path) -> None:
    """Refuse a file that is missing or too large to be read."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read ({error.strerror}); check the path.") from error
    if size > LIMIT:
        raise Unreadable(f"{path}: larger than {LIMIT >> 30} GiB, which is not read.")


def read_certificate(path: Path) -> Certificate:
    """Parse a certificate; raises Rejected if the seal is broken, Unreadable if it is none."""
    check_size(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read ({error.strerror}).") from error
    return parse_certificate(content, path)


def parse_certificate(content: bytes, path: Path) -> Certificate:
    """The same for the bytes of a file; ``path`` names it in errors."""
    lines = content.splitlines(keepends=True)
    if len(lines) < 2:
        raise Unreadable(f"{path}: not a certificate, or cut off.")
    end = _fields(f"{path}: the last line", lines[-1], _END)
    if end["sha256"] != hashlib.sha256(b"".join(lines[:-1])).hexdigest():
        raise Rejected("seal", "the file was changed after it was written.")
    header = _fields(f"{path}: line 1", lines[0], _HEADER)
    bounds, points, last = dict[tuple[str, str], Fields](), list[Fields](), -1
    for number, line in enumerate(lines[1:-1], 2):
        where = f"{path}: line {number}"
        if line.startswith(b'{"bound":') and not points:
            bound = _fields(where, line, _BOUND)
            if bounds.setdefault((bound["norm"], bound["layer"]), bound) is not bound:
                raise Unreadable(f"{where}: a second bound of one layer.")
        else:
            points.append(_fields(where, line, _POINT))
            if not last < points[-1]["index"] < header["points"]:
                raise Unreadable(f"{where}: points are not in ascending order, or too many.")
            last = points[-1]["index"]
    if header["certified"] != len(points):
        raise Unreadable(f"{path}: the header's counts and the lines of the points disagree.")
    return Certificate(header, bounds, points)


def _fields(where: str, line: bytes, known: Fields) -> Fields:
    """A line as a table with exactly these fields of exactly these types, canonically written."""
    try:
        data = json.loads(line.decode("ascii"))
        if canonical(data) + "\n" != line.decode("ascii"):
            raise Unreadable(f"{where}: not canonical JSON.")
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{where}: not JSON ({error}).") from error
    if not isinstance(data, dict) or data.keys() != known.keys():
        raise Unreadable(f"{where}: expected the fields {', '.join(known)}.")
    for name, wanted in known.items():
        if not _is(data[name], wanted):
            raise Unreadable(f"{where}: field {name} is {str(data[name])[:80]!r}.")
    return data


def _is(value: Any, wanted: Any) -> bool:
    """Exact types: True is no number; json gives NaN and Infinity where others refuse."""
    if isinstance(wanted, tuple):
        return any(_is(value, one) for one in wanted)
    if isinstance(wanted, re.Pattern):
        return isinstance(value, str) and wanted.match(value) is not None
    if isinstance(wanted, list):
        return isinstance(value, list) and all(type(item) is int for item in value)
    if isinstance(wanted, type):
        return type(value) is wanted and (wanted is not float or math.isfinite(value))
    return type(value) is type(wanted) and value == wanted
