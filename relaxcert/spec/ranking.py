"""The ranking of the classes at a point: the coordinates in which properties are stated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from relaxcert.errors import InvalidInput

Logits = Sequence[Fraction]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The classes in descending logit order.

    Attributes:
        order: ``order[r]`` is the class of rank r (rank 0 is the prediction). Among equal logits
            the class with the smaller index comes first; ``tied`` says where that mattered.
        tied: the k for which the k-th and (k+1)-th highest logits are equal. There F^k has more
            than k members and certifies nothing.
    """

    order: tuple[int, ...]
    tied: frozenset[int] = frozenset()

    @classmethod
    def of(cls, logits: Logits) -> Ranking:
        """Rank exact logits, shape (classes,)."""
        exact = [Fraction(value) for value in logits]
        if len(exact) < 2:
            raise InvalidInput(f"logits has {len(exact)} entries, expected at least 2 classes.")
        order = sorted(range(len(exact)), key=lambda label: (-exact[label], label))
        tied = frozenset(k for k in range(1, len(exact)) if exact[order[k - 1]] == exact[order[k]])
        return cls(tuple(order), tied)

    @property
    def num_classes(self) -> int:
        """How many classes are ranked."""
        return len(self.order)

    def top(self, k: int) -> frozenset[int]:
        """The first k classes, by rank index (equal to F^k when k is not in ``tied``)."""
        return frozenset(self.order[:k])
