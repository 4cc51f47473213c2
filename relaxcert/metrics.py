"""The field's figures as torchmetrics: VRA, rejection rate, and the clean accuracies (section 6.1).

All are sums of counts, so they add up across batches and ranks.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
import torchmetrics
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.heads.certificates import Certificates
from relaxcert.lipschitz.directed import fraction_down
from relaxcert.spec.affinity import AffinitySets
from relaxcert.spec.prefix import PrefixProperty
from relaxcert.spec.property import Conjunction, Property
from relaxcert.spec.targeted import Targeted


class _Share(torchmetrics.Metric):
    """A share of all points."""

    full_state_update = False
    hits: Tensor
    points: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("hits", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("points", torch.tensor(0), dist_reduce_fx="sum")

    def _count(self, hits: Tensor) -> None:
        self.hits += hits.sum()
        self.points += hits.numel()

    def compute(self) -> Tensor:
        """The share, in 0..1; NaN before the first point."""
        return self.hits.double() / self.points


class VerifiedRobustAccuracy(_Share):
    """VRA: certified, and the label lies in the certified set of the loosest guarantee.

    For Local this is VRA, for RelaxedTopK the paper's RTK VRA, for Affinity its affinity VRA. For
    Targeted the set is the classes that are allowed around the prediction. ``a & b`` counts a point
    that counts for both, ``a | b`` one that counts for either.
    """

    def update(self, certificates: Certificates, labels: Tensor) -> None:
        """Count a batch; labels (batch,)."""
        _check_labels(labels, certificates.sets.shape)
        self._count(certified_and_correct(certificates, labels))


def certified_and_correct(certificates: Certificates, labels: Tensor) -> Tensor:
    """Which points count for the VRA; (batch,) bool."""
    if certificates.parts:
        parts = torch.stack([certified_and_correct(p, labels) for p in certificates.parts])
        return parts.all(0) if isinstance(certificates.prop, Conjunction) else parts.any(0)
    member = certificates.sets.gather(1, labels[:, None])[:, 0]
    return certificates.certified & member


def label_radius(certificates: Certificates, labels: Tensor) -> Tensor:
    """The largest radius up to which each point counts for the VRA; (batch,) float64.

    So the share of points whose radius is at least eps is the VRA of the same property at eps, for
    every eps: the whole curve from one certification. 0: the point counts nowhere; NaN: no radius
    is known (compositions over different norms). At level D no more than the certified eps.
    """
    _check_labels(labels, certificates.sets.shape)
    if certificates.parts:
        radii = torch.stack([label_radius(part, labels) for part in certificates.parts])
        joined = radii.amin(0) if isinstance(certificates.prop, Conjunction) else radii.amax(0)
        return joined.where(~certificates.radius.isnan(), torch.nan)
    prop, logits = certificates.prop, certificates.logits
    if certificates.prefix_radii is not None:
        # F^k holds the label if fewer than k classes score higher; a tie across k proves nothing.
        higher = (logits > logits.gather(1, labels[:, None])).sum(1, keepdim=True)
        lengths = torch.arange(certificates.prefix_radii.shape[1], device=logits.device)
        radius = certificates.prefix_radii.masked_fill(lengths < higher, 0.0).amax(1)
    elif isinstance(prop, Targeted):
        allowed = torch.zeros(logits.shape[1], logits.shape[1], dtype=torch.bool)
        for label, members in enumerate(prop.allowed):
            allowed[label, list(members)] = True
        may = allowed.to(logits.device)[certificates.prediction, labels]
        radius = certificates.radius.where(may, 0.0)
    else:
        return torch.full_like(certificates.radius, torch.nan)
    # Also where a solver certified, or where the last bits of the two proofs differ.
    proved = radius.clamp(min=fraction_down(prop.balls[0].eps))
    return torch.where(certified_and_correct(certificates, labels), proved, radius)


class AttackedRobustAccuracy(_Share):
    """An upper bound of the VRA: the points that an attack leaves to any certificate.

    Broken points cannot be certified, so VRA <= true robust accuracy <= this. How near it is to the
    truth hangs on the attack; that it is a bound does not.
    """

    def update(self, may_count: Tensor) -> None:
        """Count a batch; (batch,) bool, from ``AttackResult.may_count(labels)``."""
        if may_count.dtype != torch.bool or may_count.dim() != 1:
            raise InvalidInput(
                f"may_count has shape {tuple(may_count.shape)} and dtype {may_count.dtype}, "
                "expected (batch,) of bool: use attack(net, x).may_count(labels)."
            )
        self._count(may_count)


class RejectionRate(_Share):
    """The share of points that are not certified."""

    def update(self, certificates: Certificates, labels: Tensor | None = None) -> None:
        """Count a batch; labels are not needed."""
        self._count(~certificates.certified)


class _CleanAccuracy(_Share):
    """An accuracy without perturbation, from logits."""

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch; logits (batch, classes), labels (batch,). Non-finite rows are wrong."""
        _check_labels(labels, logits.shape)
        at_least = self.at_least_as_high(logits, labels)
        self._count(self.correct(at_least, labels) & logits.isfinite().all(1))

    @staticmethod
    def at_least_as_high(logits: Tensor, labels: Tensor) -> Tensor:
        """Mask of the classes that score at least as high as the label's; ties count as above."""
        return logits >= logits.gather(1, labels[:, None])

    @abstractmethod
    def correct(self, at_least: Tensor, labels: Tensor) -> Tensor:
        """Which points count as correct."""


class TopKAccuracy(_CleanAccuracy):
    """The label is among the k highest logits; a tie at the boundary counts against it."""

    def __init__(self, k: int = 1) -> None:
        super().__init__()
        self.k = k

    def correct(self, at_least: Tensor, labels: Tensor) -> Tensor:
        """At most k classes score as high as the label, itself included."""
        return at_least.sum(1) <= self.k


class AffinityAccuracy(_CleanAccuracy):
    """The label and all classes scored above it share one affinity set (section 6.1)."""

    outside: Tensor

    def __init__(self, sets: AffinitySets) -> None:
        super().__init__()
        outside = torch.ones(len(sets), sets.num_classes, dtype=torch.bool)
        for row, members in enumerate(sets.sets):
            outside[row, list(members)] = False
        self.register_buffer("outside", outside, persistent=False)

    def correct(self, at_least: Tensor, labels: Tensor) -> Tensor:
        """For some set S, no class at or above the label lies outside S."""
        return (at_least[:, None, :] & self.outside).any(2).logical_not().any(1)


def clean_accuracy(prop: Property) -> _CleanAccuracy:
    """The clean accuracy that goes with a property: top-1, top-K or affinity accuracy.

    Targeted and compositions are judged by top-1.
    """
    if isinstance(prop, PrefixProperty):
        sets = prop.affinity_sets
        return AffinityAccuracy(sets) if sets is not None else TopKAccuracy(max(prop.lengths()))
    return TopKAccuracy(1)


def clean_accuracy_name(prop: Property) -> str:
    """What :func:`clean_accuracy` measures, in words."""
    if isinstance(prop, PrefixProperty):
        return "affinity accuracy" if prop.affinity_sets else f"top-{max(prop.lengths())} accuracy"
    return "top-1 accuracy"


def _check_labels(labels: Tensor, shape: torch.Size) -> None:
    if labels.shape != shape[:1] or labels.dtype not in (torch.int64, torch.int32):
        raise InvalidInput(
            f"labels has shape {tuple(labels.shape)} and dtype {labels.dtype}, expected "
            f"({shape[0]},) of int64: one label a point."
        )
    if not torch.compiler.is_compiling() and labels.numel():
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= shape[1]:
            row = int(((labels < 0) | (labels >= shape[1])).int().argmax())
            raise InvalidInput(
                f"labels[{row}]={int(labels[row])} is out of range: with {shape[1]} classes, "
                f"labels go from 0 to {shape[1] - 1}."
            )
