"""Figures class by class, and what an answer that never looks at its input would score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxcert.heads.certificates import Certificates
from relaxcert.metrics import certified_and_correct, clean_accuracy
from relaxcert.spec.prefix import PrefixProperty
from relaxcert.spec.property import Property
from relaxcert.spec.targeted import Targeted


@dataclass(frozen=True)
class ClassFigures:
    """Shares in 0..1 over the points whose label is one class."""

    name: str
    points: int
    vra: float
    rejection_rate: float
    clean_accuracy: float
    top1_accuracy: float


def figures_by_class(
    certificates: Certificates, labels: Tensor, class_names: Sequence[str] | None = None
) -> list[ClassFigures]:
    """One line a class; NaN for a class without points."""
    target = labels.to(certificates.logits.device)
    correct = certified_and_correct(certificates, target)
    rows: list[ClassFigures] = []
    for label in range(certificates.logits.shape[1]):
        chosen = target == label
        logits = certificates.logits[chosen]
        clean = clean_accuracy(certificates.prop).to(logits.device)
        clean.update(logits, target[chosen])
        rows.append(
            ClassFigures(
                name=str(label) if class_names is None else class_names[label],
                points=int(chosen.sum()),
                vra=_share(correct[chosen]),
                rejection_rate=_share(~certificates.certified[chosen]),
                clean_accuracy=float(clean.compute()) if len(logits) else float("nan"),
                top1_accuracy=_share(logits.argmax(1) == label),
            )
        )
    return rows


def constant_answers(labels: Tensor, prop: Property, num_classes: int) -> dict[str, float]:
    """The VRA of the best constant network, which is certified everywhere and rejects nothing.

    Returns:
        ``one class``: the largest share of a class; ``one set``: the largest share of a set that
        the property lets a certificate confine to (an affinity set, k classes, a class and what
        is allowed around it), as the VRA of a relaxed property counts the whole set.
    """
    shares = labels.bincount(minlength=num_classes).double() / max(1, len(labels))
    return {
        "one class": float(shares.max()),
        "one set": max((float(shares[s].sum()) for s in _sets(prop, shares)), default=0.0),
    }


def _sets(prop: Property, shares: Tensor) -> list[list[int]]:
    if isinstance(prop, Targeted):
        return [sorted(allowed) for allowed in prop.allowed]
    if not isinstance(prop, PrefixProperty):
        return []
    lengths = set(prop.lengths())
    sets = prop.affinity_sets
    order = shares.argsort(descending=True).tolist()
    if sets is None:
        return [order[:k] for k in lengths]
    ranked = [[label for label in order if label in members] for members in sets.sets]
    return [members[:k] for members in ranked for k in lengths]


def _share(flags: Tensor) -> float:
    return float(flags.double().mean()) if flags.numel() else float(torch.nan)
