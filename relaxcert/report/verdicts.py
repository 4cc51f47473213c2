"""Verdict files: one JSON line a point, and a summary that says what was proved about what."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relaxcert.files import write_text
from relaxcert.heads.certificates import Certificates
from relaxcert.lipschitz.verified import LayerBound
from relaxcert.metrics import certified_and_correct, clean_accuracy_name, label_radius
from relaxcert.report.by_class import constant_answers, figures_by_class
from relaxcert.spec.canonical import canonical_json
from relaxcert.training.evaluation import Figures

POINTS, SUMMARY = "verdicts.jsonl", "summary.json"
ATTACK = "attack.json"  # beside them, where the points were attacked


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
    """One JSON line a point: index, verdict, k, sets, margin, radius; and if the label is known:

    ``label``; ``label_rank``, 1 for the highest logit, None where logits are not finite;
    ``counts``, whether it counts for the VRA; ``label_radius``, the largest eps at which it does.
    """
    known: Iterator[dict[str, Any]] = repeat({}) if labels is None else _known(certificates, labels)
    for index, (record, more) in enumerate(zip(certificates.records(), known, strict=False)):
        yield to_json({"index": index, **more, **record})


def _known(certificates: Certificates, labels: Tensor) -> Iterator[dict[str, Any]]:
    target, logits = labels.to(certificates.logits.device), certificates.logits
    higher = (logits > logits.gather(1, target[:, None])).sum(1)
    columns = (
        target.tolist(),
        (higher + 1).tolist(),
        logits.isfinite().all(1).tolist(),
        certified_and_correct(certificates, target).tolist(),
        label_radius(certificates, target).tolist(),
    )
    for label, rank, finite, counts, radius in zip(*columns, strict=True):
        yield {
            "label": label,
            "label_rank": rank if finite else None,
            "counts": counts,
            "label_radius": radius,
        }


def summary_of(
    certificates: Certificates,
    figures: Figures | None,
    *,
    bounds: Sequence[LayerBound],
    class_names: Sequence[str] | None,
    labels: Tensor | None = None,
    **more: object,
) -> dict[str, Any]:
    """What was proved, of which weights, with which figures, by which versions.

    Args:
        certificates: of all points.
        figures: counted over them, if there are labels.
        bounds: of the network's layers.
        class_names: one a class, or None.
        labels: (points,); adds the figures class by class, and what constant answers would score.
        more: what else the file shall say, such as :func:`relaxcert.report.provenance.made_from`.
    """
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
        **_by_class(certificates, labels, class_names),
        "num_classes": certificates.logits.shape[1],
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


def _by_class(
    certificates: Certificates, labels: Tensor | None, class_names: Sequence[str] | None
) -> dict[str, Any]:
    if labels is None:
        return {}
    classes = certificates.logits.shape[1]
    return {
        "by_class": [asdict(row) for row in figures_by_class(certificates, labels, class_names)],
        "constant_answers": constant_answers(labels.cpu(), certificates.prop, classes),
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
