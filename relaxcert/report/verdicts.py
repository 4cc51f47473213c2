"""Verdict files: one JSON line a point, and a summary that says what was proved about what."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relaxcert.files import write_text
from relaxcert.heads.certificates import Certificates
from relaxcert.lipschitz.verified import LayerBound
from relaxcert.metrics import clean_accuracy_name
from relaxcert.spec.canonical import canonical_json
from relaxcert.training.evaluation import Figures

POINTS, SUMMARY = "verdicts.jsonl", "summary.json"


def to_json(value: object, *, indent: int | None = None) -> str:
    """Strict JSON; numbers that JSON lacks become the texts "inf", "-inf" and "nan"."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _plain(value: object) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def point_lines(certificates: Certificates, labels: Tensor | None) -> Iterator[str]:
    """One JSON line a point: index, label if known, verdict, k, set, margin, radius."""
    for index, record in enumerate(certificates.records()):
        known = {} if labels is None else {"label": int(labels[index])}
        yield to_json({"index": index, **known, **record})


def summary_of(
    certificates: Certificates,
    figures: Figures | None,
    *,
    bounds: Sequence[LayerBound],
    class_names: Sequence[str] | None,
    **more: object,
) -> dict[str, Any]:
    """What was proved, of which weights, with which figures, by which versions."""
    from relaxcert import __version__

    certified = certificates.certified
    return {
        "property": json.loads(canonical_json(certificates.prop)),
        "digest": certificates.digest,
        "weights_sha256": certificates.fingerprint,
        "level": certificates.level,
        "points": len(certificates),
        "certified": int(certified.sum()),
        "rejection_rate": float((~certified).double().mean()) if len(certified) else math.nan,
        "figures": None if figures is None else figures.as_dict(),
        "clean_accuracy_is": clean_accuracy_name(certificates.prop),
        "certified_by_k": _counts(certificates.k[certified]),
        "class_names": None if class_names is None else list(class_names),
        "bounds": [
            {
                "path": row.path,
                "kind": row.kind,
                "norm": row.norm,
                "bound": row.bound,
                "method": row.method,
            }
            for row in bounds
        ],
        "versions": {
            "relaxcert": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        **more,
    }


def write_verdicts(
    folder: Path, certificates: Certificates, labels: Tensor | None, summary: dict[str, Any]
) -> None:
    """Write both files, each atomically."""
    lines = "".join(line + "\n" for line in point_lines(certificates, labels))
    write_text(folder / POINTS, lines)
    write_text(folder / SUMMARY, to_json(summary, indent=2) + "\n")


def _counts(values: Tensor) -> dict[str, int]:
    found, counts = values.unique(return_counts=True)
    return {str(int(k)): int(n) for k, n in zip(found, counts, strict=True)}
