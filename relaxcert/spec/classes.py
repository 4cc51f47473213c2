"""The classes that a document speaks of, and what its names for them and for groups denote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relaxcert.errors import InvalidProperty, suggestion
from relaxcert.spec.affinity import AffinitySets, ClassLike, resolve_class
from relaxcert.spec.explain import at


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a document: how many, their names if any, and the named groups."""

    count: int
    names: tuple[str, ...] | None
    groups: dict[str, tuple[int, ...]]

    def index(self, label: ClassLike) -> int:
        """The index of a class given by name or index."""
        return resolve_class(label, self.count, self.names)

    def members(self, labels: Sequence[ClassLike] | str) -> tuple[int, ...]:
        """The indices of a list of classes, or of a group given by name."""
        if not isinstance(labels, str):
            return tuple(self.index(label) for label in labels)
        if labels not in self.groups:
            known = ", ".join(self.groups) or "none; add a [groups] table"
            raise InvalidProperty(
                f"group {labels!r} does not exist.{suggestion(labels, self.groups)} "
                f"Known groups: {known}."
            )
        return self.groups[labels]

    def order(self, labels: Sequence[ClassLike]) -> tuple[int, ...]:
        """The indices of a list that must name every class once."""
        order = tuple(self.index(label) for label in labels)
        if sorted(order) != list(range(self.count)):
            raise InvalidProperty(
                f"{list(labels)!r} must name each of the {self.count} classes exactly once."
            )
        return order

    def key(self, text: str) -> int:
        """The index of a class given by a table's key, where even an index is text."""
        if self.names is not None and text in self.names:
            return self.index(text)
        return self.index(int(text) if text.isascii() and text.isdigit() else text)

    def sets(self, tables: Sequence[Sequence[ClassLike] | str], field: str) -> AffinitySets:
        """The affinity sets that a list of sets and group names denotes."""
        resolved: list[tuple[int, ...]] = []
        for place, members in enumerate(tables):
            with at(f"{field}[{place}]"):
                one = AffinitySets([self.members(members)], self.count)
                resolved.extend(one.sets)
        with at(field):
            return AffinitySets(resolved, self.count, class_names=self.names)
