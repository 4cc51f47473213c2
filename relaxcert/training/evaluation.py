"""The figures of a network on labelled data: VRA, rejection rate, clean accuracies."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.heads.certificates import Certificates, concatenate
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.metrics import (
    RejectionRate,
    TopKAccuracy,
    VerifiedRobustAccuracy,
    clean_accuracy,
)


@dataclass(frozen=True)
class Figures:
    """Shares in 0..1 over ``points`` points (paper, section 6.1, Table 1)."""

    points: int
    vra: float
    rejection_rate: float
    clean_accuracy: float
    top1_accuracy: float

    def as_dict(self) -> dict[str, float]:
        """Plain numbers by name."""
        return asdict(self)


def evaluate(
    net: GloRoNet, inputs: Tensor, labels: Tensor, *, batch_size: int = 4096
) -> tuple[Figures, Certificates]:
    """Certify labelled points (level R) and count.

    Args:
        net: any GloRoNet; its mode does not matter.
        inputs: (points, ...); taken exactly.
        labels: (points,), int64.
        batch_size: points at a time.

    Raises:
        InvalidInput: no points, or labels that do not fit; and the errors of ``certify``.
    """
    if len(inputs) == 0 or len(labels) != len(inputs):
        raise InvalidInput(
            f"inputs has {len(inputs)} points and labels {len(labels)}: give at least one point "
            "and one label a point."
        )
    certificates = concatenate([net.certify(chosen) for chosen in inputs.split(batch_size)])
    return figures_of(certificates, labels), certificates


def figures_of(certificates: Certificates, labels: Tensor) -> Figures:
    """Count certificates against labels, (points,).

    Raises:
        InvalidInput: labels that do not fit.
    """
    logits = certificates.logits
    target = labels.to(logits.device)
    vra, rejection = VerifiedRobustAccuracy(), RejectionRate()
    clean, top1 = clean_accuracy(certificates.prop), TopKAccuracy(1)
    for metric in (vra, rejection, clean, top1):
        metric.to(logits.device)
    vra.update(certificates, target)
    rejection.update(certificates)
    clean.update(logits, target)
    top1.update(logits, target)
    return Figures(
        points=len(certificates),
        vra=float(vra.compute()),
        rejection_rate=float(rejection.compute()),
        clean_accuracy=float(clean.compute()),
        top1_accuracy=float(top1.compute()),
    )
