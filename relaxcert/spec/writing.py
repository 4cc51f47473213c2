"""Properties as the tables of a document: the inverse of :mod:`relaxcert.spec.kinds`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from relaxcert.errors import DocumentError
from relaxcert.spec.ball import Ball, format_eps
from relaxcert.spec.prefix import Affinity, Local, RelaxedTopK, TopK
from relaxcert.spec.property import Conjunction, Disjunction, Property
from relaxcert.spec.targeted import Targeted


def table_of(prop: Property, names: Sequence[str] | None) -> dict[str, object]:
    """The ``[property]`` table of any built-in property; classes by name where there are names.

    Raises:
        DocumentError: the property is of a kind that documents do not have.
    """
    match prop:
        case Local() if type(prop) is Local:
            return {"kind": "local", **_ball(prop.ball)}
        case TopK() if type(prop) is TopK:
            return {"kind": "top-k", "k": prop.k, **_ball(prop.ball)}
        case RelaxedTopK() if type(prop) is RelaxedTopK:
            return {
                "kind": "relaxed-top-k",
                "k": prop.k,
                **_ball(prop.ball),
                "quantifier": prop.quantifier,
            }
        case Affinity() if type(prop) is Affinity:
            sets = [[_label(label, names) for label in members] for members in prop.sets.sets]
            return {
                "kind": "affinity",
                "sets": sets,
                **_ball(prop.ball),
                "quantifier": prop.quantifier,
            }
        case Targeted() if type(prop) is Targeted:
            allowed = {
                str(_label(label, names)): [_label(other, names) for other in members]
                for label, members in enumerate(prop.allowed)
            }
            return {"kind": "targeted", "allowed": allowed, **_ball(prop.ball)}
        case Conjunction() | Disjunction():
            kind = "all" if isinstance(prop, Conjunction) else "any"
            return {"kind": kind, "parts": [table_of(part, names) for part in prop.parts]}
        case _:
            raise DocumentError(
                f"{type(prop).__name__} has no document form: documents hold the built-in "
                "properties and their compositions; ship a property of your own as Python code."
            )


def kind_first(table: dict[str, object]) -> dict[str, object]:
    """The same table, and each of its parts, with the kind in the first line, where people look."""
    ordered = {"kind": table["kind"], **table}
    if "parts" in ordered:
        parts = cast("Sequence[dict[str, object]]", ordered["parts"])
        ordered["parts"] = [kind_first(part) for part in parts]
    return ordered


def leaves(prop: Property) -> Iterator[Property]:
    """The properties that a composition is made of, at any depth; a simple property itself."""
    if isinstance(prop, Conjunction | Disjunction):
        for part in prop.parts:
            yield from leaves(part)
    else:
        yield prop


def classes_of(prop: Property) -> tuple[int | None, tuple[str, ...] | None]:
    """The number of classes and the class names that a property carries itself, if any."""
    count: int | None = None
    names: tuple[str, ...] | None = None
    for leaf in leaves(prop):
        if isinstance(leaf, Affinity):
            count = leaf.sets.num_classes
            names = names if names is not None else leaf.sets.class_names
        elif isinstance(leaf, Targeted):
            count = len(leaf.allowed)
    return count, names


def _ball(ball: Ball) -> dict[str, object]:
    return {"eps": format_eps(ball.eps), "norm": ball.norm}


def _label(label: int, names: Sequence[str] | None) -> int | str:
    return label if names is None else names[label]
