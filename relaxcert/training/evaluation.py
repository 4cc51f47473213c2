"""The figures of a network on labelled data: VRA, rejection rate, clean accuracies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.heads.certificates import Certificates, concatenate
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.metrics import (
    AttackedRobustAccuracy,
    RejectionRate,
    TopKAccuracy,
    VerifiedRobustAccuracy,
    clean_accuracy,
)
from relaxcert.training.ranks import present_ranks

_ATTACKED = 256  # points attacked at a time: each takes a few restarts for every target


@dataclass(frozen=True)
class Figures:
    """Shares in 0..1 over ``points`` points (paper, section 6.1, Table 1).

    ``vra_upper_bound`` is what an attack leaves to any certificate; None where none was asked for.
    """

    points: int
    vra: float
    rejection_rate: float
    clean_accuracy: float
    top1_accuracy: float
    vra_upper_bound: float | None = None

    def as_dict(self) -> dict[str, float]:
        """Plain numbers by name; without the upper bound where it is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Attacked(Protocol):
    """What an attack of a batch tells: :class:`relaxcert.attacks.AttackResult` is one."""

    def may_count(self, labels: Tensor) -> Tensor:
        """Which points robust accuracy may still count; labels (batch,) -> (batch,) bool."""
        ...


def evaluate(
    net: GloRoNet,
    inputs: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 4096,
    attack: Callable[[GloRoNet, Tensor], Attacked] | None = None,
) -> tuple[Figures, Certificates]:
    """Certify labelled points (level R) and count.

    Where torch.distributed is initialised, all ranks call it, each with its own points (of which
    it may have none): the figures are of all points, the certificates of the rank's own.

    Args:
        net: any GloRoNet; its mode does not matter.
        inputs: (points, ...); taken exactly.
        labels: (points,), int64.
        batch_size: points at a time.
        attack: for the upper bound of the VRA, such as ``relaxcert.attacks.attack``; far slower
            than certifying.

    Raises:
        InvalidInput: no points, or labels that do not fit; and the errors of ``certify``.
    """
    if (len(inputs) == 0 and present_ranks().count == 1) or len(labels) != len(inputs):
        raise InvalidInput(
            f"inputs has {len(inputs)} points and labels {len(labels)}: give at least one point "
            "and one label a point."
        )
    certificates = concatenate([net.certify(chosen) for chosen in inputs.split(batch_size)])
    if attack is None:
        return figures_of(certificates, labels), certificates
    pairs = zip(inputs.split(_ATTACKED), labels.split(_ATTACKED), strict=True)
    may_count = torch.cat([attack(net, points).may_count(known) for points, known in pairs])
    return figures_of(certificates, labels, may_count), certificates


def figures_of(
    certificates: Certificates, labels: Tensor, may_count: Tensor | None = None
) -> Figures:
    """Count certificates against labels, (points,); over all ranks, if there are several.

    Args:
        certificates: of all points.
        labels: theirs.
        may_count: what an attack left, (points,) bool, from ``AttackResult.may_count(labels)``.

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
        points=int(present_ranks().total(torch.tensor(len(certificates), device=target.device))),
        vra=float(vra.compute()),
        rejection_rate=float(rejection.compute()),
        clean_accuracy=float(clean.compute()),
        top1_accuracy=float(top1.compute()),
        vra_upper_bound=None if may_count is None else _share(may_count),
    )


def _share(may_count: Tensor) -> float:
    upper = AttackedRobustAccuracy().to(may_count.device)
    upper.update(may_count)
    return float(upper.compute())
