"""Two networks on the same points: the analysis of sections 6.1 to 6.3 of the paper.

What the one rejects and the other certifies; whose certified sets lie inside groups of classes;
which classes are rejected; how large the sets are; and which points show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxcert.errors import InvalidInput
from relaxcert.heads.certificates import Certificates
from relaxcert.metrics import certified_and_correct
from relaxcert.spec.affinity import AffinitySets
from relaxcert.training.evaluation import Figures, figures_of


@dataclass(frozen=True)
class Share:
    """A share and what it is of; NaN of nothing."""

    count: int
    of: int

    @property
    def share(self) -> float:
        """In 0..1."""
        return self.count / self.of if self.of else float("nan")


@dataclass(frozen=True)
class Rejected:
    """The points that one network rejects, and what the other says of them.

    Attributes:
        certified: by the other.
        alone: certified by the other for its prediction alone (a top-1 guarantee).
        counting: certified by the other with the label in its loosest set.
    """

    certified: Share
    alone: Share
    counting: Share


@dataclass(frozen=True)
class Grouped:
    """Whose certified sets lie inside a group, of the points of one network with a certified set.

    Attributes:
        strictest: the smallest certified set lies inside a group: affinity robustness for these
            groups would hold (78 % of the paper's RT5 network on CIFAR-100).
        loosest: the largest certified set does.
        rescued: of the points whose smallest set lies in no group, certified by the other network
            (34 % in the paper).
    """

    strictest: Share
    loosest: Share
    rescued: Share


@dataclass(frozen=True)
class ClassLine:
    """The points of one class: rejected by each; of those, certified by the other."""

    name: str
    points: int
    rejected: tuple[Share, Share]
    recovered: tuple[Share, Share]


@dataclass(frozen=True)
class Comparison:
    """All of it; pairs are (first network, second network).

    Attributes:
        figures: VRA, rejection rate, clean accuracies, each for the network's own property.
        rejected: what the other says of the points that each rejects.
        grouped: each network's sets against the groups; None without groups.
        classes: one line a class.
        strictest_sizes, loosest_sizes: points by the size of their certified set; 0 is rejected,
            or certified without a single set.
        examples: by what they show, the rows of a few points.
    """

    figures: tuple[Figures, Figures]
    rejected: tuple[Rejected, Rejected]
    grouped: tuple[Grouped, Grouped] | None
    classes: list[ClassLine]
    strictest_sizes: tuple[list[int], list[int]]
    loosest_sizes: tuple[list[int], list[int]]
    examples: dict[str, list[int]]


def compare(
    first: Certificates,
    second: Certificates,
    labels: Tensor,
    *,
    groups: AffinitySets | None = None,
    class_names: Sequence[str] | None = None,
    examples: int = 8,
) -> Comparison:
    """Compare the certificates of two networks on the same labelled points.

    Args:
        first: of the stricter network, such as a standard GloRo Net.
        second: of the other, such as one that is trained for RT5.
        labels: (points,), int64.
        groups: sets of classes that the certified sets are held against, such as superclasses.
        class_names: one a class.
        examples: so many points of each kind.

    Raises:
        InvalidInput: certificates, labels or groups that do not fit together.
    """
    pair = (first, second)
    _check(pair, labels, groups)
    target = labels.cpu()
    names = class_names or tuple(map(str, range(first.logits.shape[1])))
    return Comparison(
        figures=(figures_of(first, labels), figures_of(second, labels)),
        rejected=(_rejected(first, second, labels), _rejected(second, first, labels)),
        grouped=None
        if groups is None
        else (_grouped(first, second, groups), _grouped(second, first, groups)),
        classes=[_line(name, target == label, pair) for label, name in enumerate(names)],
        strictest_sizes=(_sizes(first.strictest_sets), _sizes(second.strictest_sets)),
        loosest_sizes=(_sizes(first.sets), _sizes(second.sets)),
        examples=_examples(pair, target, groups, examples),
    )


def inside(sets: Tensor, groups: AffinitySets) -> Tensor:
    """Which sets, (points, classes) bool, are not empty and lie inside some group; (points,)."""
    result = torch.zeros(len(sets), dtype=torch.bool)
    for members in groups.sets:
        outside = torch.ones(sets.shape[1], dtype=torch.bool)
        outside[list(members)] = False
        result |= ~(sets.cpu() & outside).any(1)
    return result & sets.cpu().any(1)


def _share(chosen: Tensor, among: Tensor) -> Share:
    return Share(int((chosen.cpu() & among.cpu()).sum()), int(among.sum()))


def _rejected(one: Certificates, other: Certificates, labels: Tensor) -> Rejected:
    among = ~one.certified
    return Rejected(
        certified=_share(other.certified, among),
        alone=_share(other.strictest_k == 1, among),
        counting=_share(certified_and_correct(other, labels.to(other.logits.device)), among),
    )


def _grouped(one: Certificates, other: Certificates, groups: AffinitySets) -> Grouped:
    certified = one.strictest_sets.cpu().any(1)
    fits = inside(one.strictest_sets, groups)
    return Grouped(
        strictest=_share(fits, certified),
        loosest=_share(inside(one.sets, groups), certified),
        rescued=_share(other.certified, certified & ~fits),
    )


def _line(name: str, chosen: Tensor, pair: tuple[Certificates, Certificates]) -> ClassLine:
    missed = [~certificates.certified.cpu() & chosen for certificates in pair]
    return ClassLine(
        name=name,
        points=int(chosen.sum()),
        rejected=(_share(missed[0], chosen), _share(missed[1], chosen)),
        recovered=(_share(~missed[1], missed[0]), _share(~missed[0], missed[1])),
    )


def _sizes(sets: Tensor) -> list[int]:
    return torch.bincount(sets.cpu().sum(1)).tolist()


def _examples(
    pair: tuple[Certificates, Certificates],
    labels: Tensor,
    groups: AffinitySets | None,
    most: int,
) -> dict[str, list[int]]:
    """Rows of points, from as many classes as there are (Figures 3, 4 and 6, 5)."""
    first, second = pair
    certified = second.certified.cpu()
    counting = certified_and_correct(second, labels.to(second.logits.device)).cpu()
    several = second.strictest_k.cpu() > 1
    kinds = {
        "rejected by the first; the second certifies a set with the label": ~first.certified.cpu()
        & counting,
        "second: right, with a set of several classes": counting
        & several
        & (second.prediction.cpu() == labels),
    }
    if groups is not None:
        missed = first.strictest_sets.cpu().any(1) & ~inside(first.strictest_sets, groups)
        kinds["first: certified, but in no group; second: certified"] = missed & certified
    return {name: _of_many_classes(chosen, labels, most) for name, chosen in kinds.items()}


def _of_many_classes(chosen: Tensor, labels: Tensor, most: int) -> list[int]:
    """The first row of each class, then the second of each, and so on."""
    waiting = [
        torch.nonzero(chosen & (labels == label)).flatten().tolist()
        for label in labels.unique().tolist()
    ]
    turns = max(map(len, waiting), default=0)
    ordered = [rows[turn] for turn in range(turns) for rows in waiting if turn < len(rows)]
    return ordered[:most]


def _check(
    pair: tuple[Certificates, Certificates], labels: Tensor, groups: AffinitySets | None
) -> None:
    sizes = [tuple(certificates.logits.shape) for certificates in pair]
    if sizes[0] != sizes[1] or len(labels) != sizes[0][0] or not len(labels):
        raise InvalidInput(
            f"first and second have logits of shape {sizes[0]} and {sizes[1]} for {len(labels)} "
            "labels: give certificates of the same points, at least one, and a label for each."
        )
    if groups is not None and groups.num_classes != sizes[0][1]:
        raise InvalidInput(
            f"groups are of {groups.num_classes} classes, the networks have {sizes[0][1]}."
        )
