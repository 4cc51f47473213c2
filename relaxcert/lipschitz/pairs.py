"""Constants D[j, i] of logit differences h -> f_j - f_i, by row, and never more than needed.

Three kinds: a table (moderate C), rows proved on demand (large C, where C^2 numbers do not fit),
and the differentiable estimate of training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from relaxcert.lipschitz.directed import (
    UNDERFLOW,
    UNIT,
    gamma,
    scaled_to_one,
    tensor_up,
    times_power_of_two,
    up,
)
from relaxcert.lipschitz.matrix import DUAL_ORDER
from relaxcert.spec.ball import Norm

MOST_TABULATED = 2048  # classes: a float64 table of their pairs takes 32 MiB
_DIRECT = 2**24  # products of the search table of training up to which differences are formed
_TINY = 2.0**-500
_U = UNIT[torch.float64]


class Pairs(ABC):
    """D for the pairs that are asked for; symmetric.

    Attributes:
        classes: C.
        bytes_each: size of one number.
    """

    classes: int
    bytes_each: int = 8

    @property
    @abstractmethod
    def largest(self) -> Tensor:
        """An upper bound of all D; ()."""

    @property
    def tiny(self) -> bool:
        """Whether some D other than 0 may lie below 2^-500, so that quotients may overflow."""
        return False

    @abstractmethod
    def rows(self, labels: Tensor) -> Tensor:
        """D[labels[n], i] for every class i, a fresh tensor; (n,) -> (n, C)."""

    @abstractmethod
    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """D[first, second], elementwise; the shape of the labels."""


class TablePairs(Pairs):
    """All pairs in one (C, C) tensor; differentiable where that is."""

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.classes = len(table)
        self.bytes_each = table.element_size()
        self._largest: Tensor | None = None
        self._tiny: bool | None = None

    @property
    def largest(self) -> Tensor:
        """The largest entry, found once."""
        if self._largest is None:
            self._largest = self.table.detach().amax()
        return self._largest

    @property
    def tiny(self) -> bool:
        """Whether some entry other than 0 lies below 2^-500; asked of the device once."""
        if self._tiny is None:
            self._tiny = bool(((self.table > 0.0) & (self.table < _TINY)).any())
        return self._tiny

    def rows(self, labels: Tensor) -> Tensor:
        """D[labels[n], i] for every class i; (n,) -> (n, C)."""
        return self.table.index_select(0, labels)

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """D[first, second]."""
        places = first * self.classes + second
        return self.table.flatten().index_select(0, places.flatten()).view(places.shape)


class ConstantPairs(Pairs):
    """The same D for any two classes, 0 for a class and itself; float64.

    Args:
        constant: D, at least 0.
        classes: C.
        device: of the labels.
    """

    def __init__(self, constant: float, classes: int, device: torch.device) -> None:
        self.constant, self.classes = constant, classes
        self._largest = torch.tensor(constant, dtype=torch.float64, device=device)

    @property
    def largest(self) -> Tensor:
        """D itself."""
        return self._largest

    def rows(self, labels: Tensor) -> Tensor:
        """D[labels[n], i] for every class i; (n,) -> (n, C)."""
        rows = self._largest.repeat(len(labels), self.classes)
        return rows.scatter_(1, labels[:, None], 0.0)

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """D[first, second]."""
        return torch.where(first == second, 0.0, self._largest)


class VerifiedRows(Pairs):
    """Proved upper bounds of ||w_j - w_i||_*, computed row by row; for many classes.

    In l2 by the Gram expansion *with its rounding bounded*: with m features, s = ||w_j||^2 +
    ||w_i||^2, squares off by at most gamma_m s, products by gamma_m |w_j|.|w_i| <= gamma_m s / 2,
    and their sum by gamma_(m+2) 2 s, all as computed,

        ||w_j - w_i||^2 <= fl(s - 2 w_j.w_i) + 4 gamma_(m+8) fl(s)

    4 gamma_(m+8) pays for all of it in whatever order the product is summed, also where the
    difference cancels to 0 or below. So it is as sound as direct differences, and far faster: one
    matrix product. The price is looseness: up to 1e-6 ||w||, for rows that nearly coincide (tables
    of fewer classes use direct differences). Other norms: direct differences.

    Args:
        weight: (C, features), float64, finite.
        norm: of the input space; rows are measured in its dual.
    """

    def __init__(self, weight: Tensor, norm: Norm) -> None:
        self.norm: Norm = norm
        # Scaled by a power of two, so that no square overflows or vanishes.
        self.scaled, self.exponent = scaled_to_one(weight)
        self.squares = self.scaled.square().sum(1)
        self.classes, self.features = weight.shape
        norms = torch.linalg.vector_norm(self.scaled, DUAL_ORDER[norm], dim=1)
        self._largest = 2.0 * self._unscaled(norms, self.features + 5).amax()

    @property
    def largest(self) -> Tensor:
        """Twice the largest norm of a row."""
        return self._largest

    @property
    def tiny(self) -> bool:
        """Bounds are at least 2^-400 times the scale of the weight."""
        return self.exponent < -100

    def rows(self, labels: Tensor) -> Tensor:
        """Bounds of (labels[n], i) for every class i; (n,) -> (n, C)."""
        chosen = self.scaled.index_select(0, labels)
        if self.norm != "l2":
            distance = torch.cdist(chosen, self.scaled, p=DUAL_ORDER[self.norm])
            return self._unscaled(distance, self.features + 5)
        sizes = self.squares.index_select(0, labels)[:, None] + self.squares
        squared = torch.addmm(sizes, chosen, self.scaled.mT, alpha=-2.0)
        squared.add_(sizes, alpha=4.0 * gamma(self.features + 8, _U))
        return self._unscaled(squared.clamp_(min=0.0).sqrt_(), 8)

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """Bounds of single pairs, from direct differences; the shape of the labels."""
        difference = self.scaled[first] - self.scaled[second]
        distance = torch.linalg.vector_norm(difference, DUAL_ORDER[self.norm], dim=-1)
        return self._unscaled(distance, self.features + 5)

    def _unscaled(self, distance: Tensor, operations: int) -> Tensor:
        inflated = distance.mul_(up(1.0 + gamma(operations, _U))).add_(UNDERFLOW)
        return tensor_up(times_power_of_two(inflated, self.exponent))


class EstimatedPairs(Pairs):
    """The differentiable D of training, from the last layer's weight itself.

    A table is formed without gradient, for the search; only pairs that turned out to be active are
    computed again with gradient. Up to 2^24 products the table is made of direct differences;
    beyond, of products, centred on the mean row, so that the search may confuse pairs whose
    margins agree to single precision.

    Args:
        weight: (C, features), of the last layer, live.
        norm: of the input space; rows are measured in its dual.
    """

    def __init__(self, weight: Tensor, norm: Norm) -> None:
        self.weight = weight
        self.norm: Norm = norm
        self.order = DUAL_ORDER[norm]
        self.classes, features = weight.shape
        self.direct = self.classes**2 * features <= _DIRECT
        with torch.no_grad():
            self.compared = weight if self.direct else weight - weight.mean(0)
            many = self.classes > MOST_TABULATED
            self.table = None if many else self._distances(self.compared)
        self.bytes_each = weight.element_size()

    @property
    def largest(self) -> Tensor:
        """Twice the largest norm of a row."""
        return 2.0 * torch.linalg.vector_norm(self.weight.detach(), self.order, dim=1).amax()

    def rows(self, labels: Tensor) -> Tensor:
        """D[labels[n], i] for every class i, without gradient; (n,) -> (n, C)."""
        with torch.no_grad():
            if self.table is not None:
                return self.table.index_select(0, labels)
            return self._distances(self.compared.index_select(0, labels))

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """D[first, second], differentiably; gradient 0 where rows are equal."""
        if self.classes**2 <= first.numel():
            table = row_distances(self.weight, self.norm)
            return TablePairs(table).between(first, second)
        difference = _rows(self.weight, first) - _rows(self.weight, second)
        return torch.linalg.vector_norm(difference, self.order, dim=-1)

    def _distances(self, chosen: Tensor) -> Tensor:
        mode = "donot_use_mm_for_euclid_dist" if self.direct else "use_mm_for_euclid_dist"
        return torch.cdist(chosen, self.compared, p=self.order, compute_mode=mode)


def row_distances(weight: Tensor, norm: Norm) -> Tensor:
    """Differentiable D[j, i] = dual norm of w_j - w_i; gradient 0 where rows are equal."""
    return torch.cdist(
        weight, weight, p=DUAL_ORDER[norm], compute_mode="donot_use_mm_for_euclid_dist"
    )


def as_pairs(pairs: Tensor | Pairs) -> Pairs:
    """A (C, C) tensor as :class:`TablePairs`."""
    return pairs if isinstance(pairs, Pairs) else TablePairs(pairs)


def _rows(weight: Tensor, labels: Tensor) -> Tensor:
    return weight.index_select(0, labels.flatten()).view(*labels.shape, weight.shape[1])
