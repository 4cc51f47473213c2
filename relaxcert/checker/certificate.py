"""Reading a certificate file: JSON lines, one text for one meaning, sealed by a SHA-256.

    {"format":"relaxcert-certificate","version":2,"level":"R","property":{...},"digest":...,
     "weights":...,"inputs":...,"points":N,"certified":M,"kind":"header"}
    {"kind":"bound","layer":"0","norm":"l2","bound":1.25,"exponent":0,"factor":"<base64>"} ...
    {"kind":"point","index":0,"input":...,"margin":...,"radius":...,"k":...,"set":[...],...} ...
    {"kind":"end","sha256":"<of all bytes before this line>"}

Every line must be the canonical JSON of its value (sorted keys, no spaces, ASCII).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relaxcert.checker.outcome import Rejected, Unreadable

LIMIT = 2**30  # bytes of a file that are read into memory
NORMS = ("l2", "linf", "l1")
_HEX = frozenset("0123456789abcdef")
_LENGTHS = ("k", "strictest_k")
_SETS = ("set", "strictest_set")


@dataclass(frozen=True, slots=True)
class Bound:
    """``bound`` >= induced norm of the layer; for l2 with L * 2^exponent, packed by rows."""

    layer: str
    norm: str
    value: float
    exponent: int
    factor: bytes | None


@dataclass(frozen=True, slots=True)
class Claim:
    """What is claimed of one point; ``prefixes`` are (k, members) with k None if not claimed."""

    index: int
    input: str
    margin: float
    radius: float | None
    prefixes: tuple[tuple[int | None, tuple[int, ...] | None], ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate whose form is right; nothing in it is believed yet."""

    property: Any
    digest: str
    weights: str
    inputs: str
    points: int
    bounds: dict[tuple[str, str], Bound]
    claims: tuple[Claim, ...]


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
    end = _fields(path, len(lines), lines[-1], {"kind": str, "sha256": str})
    if end["kind"] != "end":
        raise Unreadable(f"{path}: the last line is not the seal: the file was cut off.")
    if end["sha256"] != hashlib.sha256(b"".join(lines[:-1])).hexdigest():
        raise Rejected("seal", "the file was changed after it was written.")
    header = _header(path, lines[0])
    bounds: dict[tuple[str, str], Bound] = {}
    claims: list[Claim] = []
    for number, line in enumerate(lines[1:-1], 2):
        if line.startswith(b'{"bound":') and not claims:
            bound = _bound(path, number, line)
            if (bound.norm, bound.layer) in bounds:
                raise Unreadable(f"{path}: line {number}: a second bound of one layer.")
            bounds[bound.norm, bound.layer] = bound
        else:
            claims.append(_claim(path, number, line))
            if claims[-1].index <= (claims[-2].index if len(claims) > 1 else -1):
                raise Unreadable(f"{path}: line {number}: points are not in ascending order.")
    if header["certified"] != len(claims) or (claims and claims[-1].index >= header["points"]):
        raise Unreadable(f"{path}: the header's counts and the lines of the points disagree.")
    return Certificate(
        header["property"],
        header["digest"],
        header["weights"],
        header["inputs"],
        header["points"],
        bounds,
        tuple(claims),
    )


def _header(path: Path, line: bytes) -> dict[str, Any]:
    texts = dict.fromkeys(("kind", "format", "level", "digest", "weights", "inputs"), str)
    header = _fields(
        path, 1, line, {**texts, "property": dict, "version": int, "points": int, "certified": int}
    )
    known = ("header", "relaxcert-certificate", 2, "R")
    found = tuple(header[name] for name in ("kind", "format", "version", "level"))
    if found != known:
        raise Unreadable(f"{path}: header {found}, expected {known}; this checker reads no other.")
    for name in ("digest", "weights", "inputs"):
        _check_hash(path, 1, header[name])
    return header


def _bound(path: Path, number: int, line: bytes) -> Bound:
    kinds: dict[str, Any] = {"kind": str, "layer": str, "norm": str, "bound": float}
    data = _fields(path, number, line, {**kinds, "exponent": int, "factor": (str, type(None))})
    if data["kind"] != "bound" or data["norm"] not in NORMS or not abs(data["exponent"]) < 2**12:
        raise Unreadable(f"{path}: line {number}: not a bound that this checker knows.")
    try:
        text = data["factor"]
        factor = None if text is None else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unreadable(f"{path}: line {number}: factor is not base64.") from error
    if factor is None and data["exponent"] != 0:
        raise Unreadable(f"{path}: line {number}: an exponent without a factor.")
    return Bound(data["layer"], data["norm"], data["bound"], data["exponent"], factor)


def _claim(path: Path, number: int, line: bytes) -> Claim:
    kinds: dict[str, Any] = {"kind": str, "index": int, "input": str, "margin": float}
    kinds["radius"] = (float, str, type(None))
    kinds |= dict.fromkeys(_LENGTHS, (int, type(None))) | dict.fromkeys(_SETS, (list, type(None)))
    data = _fields(path, number, line, kinds)
    members = [data[name] for name in _SETS]
    whole = all(type(label) is int for labels in members for label in labels or ())
    radius = math.inf if data["radius"] == "inf" else data["radius"]
    if data["kind"] != "point" or data["index"] < 0 or isinstance(radius, str) or not whole:
        raise Unreadable(f"{path}: line {number}: not a point.")
    _check_hash(path, number, data["input"])
    lengths = (data[name] for name in _LENGTHS)
    sets = (None if labels is None else tuple(labels) for labels in members)
    prefixes = tuple(zip(lengths, sets, strict=True))
    return Claim(data["index"], data["input"], data["margin"], radius, prefixes)


def _check_hash(path: Path, number: int, text: str) -> None:
    if len(text) != 64 or not _HEX.issuperset(text):
        raise Unreadable(f"{path}: line {number}: {text[:80]!r} is not a SHA-256.")


def _fields(path: Path, number: int, line: bytes, kinds: dict[str, Any]) -> dict[str, Any]:
    """A line as a table with exactly these fields of exactly these types, canonically written."""
    where = f"{path}: line {number}"
    try:
        data = json.loads(line.decode("ascii"))
        if canonical(data) + "\n" != line.decode("ascii"):
            raise Unreadable(f"{where}: not canonical JSON.")
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{where}: not JSON ({error}).") from error
    if not isinstance(data, dict) or data.keys() != kinds.keys():
        raise Unreadable(f"{where}: expected the fields {', '.join(kinds)}.")
    for name, kind in kinds.items():
        # Exact types: True is no number; json gives NaN and Infinity where others refuse.
        if type(data[name]) not in (kind if isinstance(kind, tuple) else (kind,)) or (
            isinstance(data[name], float) and not math.isfinite(data[name])
        ):
            raise Unreadable(f"{where}: field {name} is {str(data[name])[:80]!r}.")
    return data
