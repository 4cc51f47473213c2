"""Affinity sets: the classes that may be certified together (paper, section 4)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from operator import index
from typing import SupportsIndex

from relaxcert.errors import InvalidProperty, VacuousProperty, suggestion

ClassLike = int | str


class AffinitySets:
    """A collection S of affinity sets over ``num_classes`` classes (Definition 4).

    A frozen value: equal when the number of classes and the sets are equal, in any order. Class
    names are labels for people and take no part in equality. Sets may overlap; a class may lie in
    none (its points are then never certified, and a warning says so when the property meets a
    network).

    Args:
        sets: the affinity sets; members are class indices, or names if ``class_names`` is given.
        num_classes: the number of classes; may be left out if ``class_names`` is given.
        class_names: one name per class.

    Raises:
        InvalidProperty: empty set, unknown or repeated class, wrong number of names.
        VacuousProperty: a set that holds every class (it would permit any prediction).
    """

    __slots__ = ("class_names", "num_classes", "sets")

    sets: tuple[tuple[int, ...], ...]
    num_classes: int
    class_names: tuple[str, ...] | None

    def __init__(
        self,
        sets: Iterable[Iterable[ClassLike]],
        num_classes: int | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> None:
        names = _checked_names(class_names, num_classes)
        count = _checked_count(len(names) if names is not None else num_classes)
        resolved = {_resolve_set(members, count, names) for members in sets}
        if not resolved:
            raise InvalidProperty(
                "sets=[] must hold at least one affinity set: without one nothing can be certified."
            )
        object.__setattr__(self, "sets", tuple(sorted(resolved)))
        object.__setattr__(self, "num_classes", count)
        object.__setattr__(self, "class_names", names)

    @classmethod
    def from_groups(
        cls,
        groups: Mapping[str, Iterable[ClassLike]],
        num_classes: int | None = None,
        *,
        class_names: Sequence[str] | None = None,
        singletons: bool = True,
    ) -> AffinitySets:
        """One affinity set a named group; with ``singletons`` each other class is a set of its own.

        Raises the errors of :class:`AffinitySets`.
        """
        given = cls(groups.values(), num_classes, class_names=class_names)
        if not singletons:
            return given
        alone = [[label] for label in given.uncovered]
        return cls([*given.sets, *alone], given.num_classes, class_names=class_names)

    @classmethod
    def from_superclasses(
        cls, superclass_of: Sequence[Hashable], *, class_names: Sequence[str] | None = None
    ) -> AffinitySets:
        """The partition in which classes of one superclass may be grouped.

        ``superclass_of[c]`` is the superclass (any hashable) of class c, as in CIFAR-100's
        fine-to-coarse table.
        """
        members: dict[Hashable, list[int]] = {}
        for label, superclass in enumerate(superclass_of):
            members.setdefault(superclass, []).append(label)
        return cls(members.values(), len(superclass_of), class_names=class_names)

    @classmethod
    def adjacent(
        cls,
        order: Sequence[ClassLike],
        *,
        width: int = 2,
        class_names: Sequence[str] | None = None,
    ) -> AffinitySets:
        """All runs of ``width`` neighbours in ``order``, which lists every class once.

        ``adjacent([3, 1, 0, 2, 4])`` gives the ACAS Xu pairs of neighbouring advisories
        (Appendix D).
        """
        names = _checked_names(class_names, len(order))
        labels = [resolve_class(label, len(order), names) for label in order]
        if len(set(labels)) != len(labels):
            raise InvalidProperty(f"order={list(order)!r} must name each class exactly once.")
        if not 2 <= width <= len(labels):
            raise InvalidProperty(
                f"width={width} must lie between 2 and the number of classes ({len(labels)})."
            )
        runs = [labels[i : i + width] for i in range(len(labels) - width + 1)]
        return cls(runs, len(labels), class_names=class_names)

    @property
    def largest(self) -> int:
        """The size of the largest set: K in Appendix B, the largest prefix that can be admitted."""
        return max(len(members) for members in self.sets)

    @property
    def uncovered(self) -> tuple[int, ...]:
        """The classes that lie in no affinity set."""
        covered = {label for members in self.sets for label in members}
        return tuple(label for label in range(self.num_classes) if label not in covered)

    def admits(self, labels: Iterable[ClassLike]) -> bool:
        """Whether all ``labels`` lie together in one affinity set: ``exists S: labels in S``."""
        wanted = {resolve_class(label, self.num_classes, self.class_names) for label in labels}
        return any(wanted.issubset(members) for members in self.sets)

    def sets_of(self, label: ClassLike) -> tuple[tuple[int, ...], ...]:
        """The affinity sets that hold class ``label``."""
        wanted = resolve_class(label, self.num_classes, self.class_names)
        return tuple(members for members in self.sets if wanted in members)

    def is_partition(self) -> bool:
        """Whether each class lies in exactly one set."""
        return sum(len(s) for s in self.sets) == self.num_classes and not self.uncovered

    def is_transitive(self) -> bool:
        """Whether "may be grouped with" is transitive: a with b and b with c implies a with c.

        False for adjacent pairs (left with straight, straight with right, never left with right):
        there a chain of small steps may lead anywhere although each step is permitted.
        """
        grouped = {pair for members in self.sets for pair in combinations(members, 2)}
        neighbours: dict[int, set[int]] = {}
        for a, b in grouped:
            neighbours.setdefault(a, set()).add(b)
            neighbours.setdefault(b, set()).add(a)
        ends = (pair for near in neighbours.values() for pair in combinations(sorted(near), 2))
        return all(pair in grouped for pair in ends)

    def name(self, label: int) -> str:
        """The name of a class, or its index as text if there are no names."""
        return self.class_names[label] if self.class_names is not None else str(label)

    def with_names(self, class_names: Sequence[str]) -> AffinitySets:
        """The same sets with names for the classes."""
        return AffinitySets(self.sets, self.num_classes, class_names=class_names)

    def __setattr__(self, key: str, value: object) -> None:
        raise AttributeError(f"AffinitySets is frozen: {key!r} cannot be set; build a new one.")

    def __delattr__(self, key: str) -> None:
        raise AttributeError(f"AffinitySets is frozen: {key!r} cannot be deleted; build a new one.")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.sets, self.num_classes, self.class_names))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AffinitySets):
            return NotImplemented
        return (self.sets, self.num_classes) == (other.sets, other.num_classes)

    def __hash__(self) -> int:
        return hash((self.sets, self.num_classes))

    def __len__(self) -> int:
        return len(self.sets)

    def __repr__(self) -> str:
        sets = [list(members) for members in self.sets]
        names = "" if self.class_names is None else f", class_names={list(self.class_names)!r}"
        return f"AffinitySets({sets!r}, num_classes={self.num_classes}{names})"


def resolve_class(label: ClassLike, num_classes: int, names: Sequence[str] | None) -> int:
    """Return the index of a class given by index or name, or raise InvalidProperty."""
    if isinstance(label, str):
        if names is None:
            raise InvalidProperty(
                f"class {label!r} is given by name, but there are no class names: "
                "pass class_names=[...] or use indices."
            )
        if label not in names:
            raise InvalidProperty(
                f"class {label!r} does not exist.{suggestion(label, names)} "
                f"Known classes: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."
            )
        return list(names).index(label)
    # numpy integers carry __index__ and are welcome; bools and floats are mistakes.
    if isinstance(label, bool) or not hasattr(label, "__index__"):
        raise InvalidProperty(f"class {label!r} must be an index (int) or a name (str).")
    place = index(label)
    if not 0 <= place < num_classes:
        raise InvalidProperty(
            f"class {place} is out of range: with {num_classes} classes, "
            f"indices go from 0 to {num_classes - 1}."
        )
    return place


def _rebuild(
    sets: Iterable[Iterable[int]], num_classes: int, class_names: Sequence[str] | None
) -> AffinitySets:
    return AffinitySets(sets, num_classes, class_names=class_names)


def _checked_names(
    class_names: Sequence[str] | None, num_classes: int | None
) -> tuple[str, ...] | None:
    if class_names is None:
        return None
    names = tuple(class_names)
    if isinstance(class_names, str) or not all(_is_text(name) for name in names):
        raise InvalidProperty(
            f"class_names={class_names!r} must be a list of texts, one a class, "
            "such as ['cat', 'dog']."
        )
    if len(set(names)) != len(names):
        raise InvalidProperty("class_names must not repeat a name: a class is found by its name.")
    if num_classes is not None and num_classes != len(names):
        raise InvalidProperty(
            f"class_names has {len(names)} names, but num_classes={num_classes}: they must agree."
        )
    return names


def _is_text(name: object) -> bool:
    return isinstance(name, str)


def _checked_count(num_classes: object) -> int:
    if num_classes is None:
        raise InvalidProperty("num_classes is missing: give it, or give class_names.")
    count = 0
    if isinstance(num_classes, SupportsIndex) and not isinstance(num_classes, bool):
        count = index(num_classes)
    if count < 2:
        raise InvalidProperty(f"num_classes={num_classes!r} must be a whole number of at least 2.")
    return count


def _resolve_set(
    members: Iterable[ClassLike], num_classes: int, names: Sequence[str] | None
) -> tuple[int, ...]:
    if isinstance(members, str) or not hasattr(members, "__iter__"):
        raise InvalidProperty(
            f"affinity set {members!r} must be a list of classes: write [[0, 1], [2]], "
            "a list of lists."
        )
    labels = [resolve_class(label, num_classes, names) for label in members]
    if not labels:
        raise InvalidProperty("an affinity set is empty: remove it or name its classes.")
    if len(set(labels)) != len(labels):
        raise InvalidProperty(f"affinity set {labels} names a class twice.")
    if len(labels) == num_classes:
        raise VacuousProperty(
            f"affinity set {sorted(labels)} holds all {num_classes} classes: every prediction "
            "would be permitted; leave at least one class out of each set."
        )
    return tuple(sorted(labels))
