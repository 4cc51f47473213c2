"""Property documents: TOML files that say what a classifier must guarantee, for which classes.

relaxcert = 1
name = "landsat/soils"
source = "Statlog Landsat Satellite, UCI"
num_classes = 6

[property]
kind = "affinity"
sets = [[2, 3, 5], [0], [1], [4]]
eps = "0.03"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, PrivateAttr, StrictInt, ValidationError, model_validator

from relaxcert.errors import DocumentError, InvalidProperty
from relaxcert.spec.affinity import AffinitySets
from relaxcert.spec.classes import Classes
from relaxcert.spec.explain import at, explain
from relaxcert.spec.kinds import FIELDS_OF_KIND, ClassReference, PropertyTable, Table
from relaxcert.spec.property import Property
from relaxcert.spec.toml import parse_toml, read_text
from relaxcert.spec.writing import classes_of, kind_first, table_of

Best = Literal["max", "min"]
ClassName = Annotated[str, Field(pattern=r"\S")]

NAME_PATTERN = r"^[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)*$"

# How to write each field, for whoever wrote it wrongly.
_HINTS: Mapping[str, str] = {
    "relaxcert": "relaxcert = 1, the version of this format that this release reads",
    "name": 'a name such as name = "landsat/soils": lowercase letters, digits, dashes, slashes',
    "title": 'title = "a line for people"',
    "source": 'where the property is from, such as source = "Table 1 of ..."',
    "notes": 'notes = "text"',
    "num_classes": "the number of the network's outputs, such as num_classes = 6",
    "class_names": 'one text a class, such as class_names = ["cat", "dog"]',
    "best": 'best = "max", or best = "min" if the smallest output is the prediction',
    "groups": 'a [groups] table with lists of classes, such as pets = ["cat", "dog"]',
    "property": "a [property] table that begins with its kind",
    "kind": 'for example kind = "local"',
    "eps": 'the radius in quotes, such as eps = "0.03" or eps = "36/255"',
    "norm": 'norm = "l2", "linf" or "l1"',
    "k": "a whole number of at least 1, such as k = 3",
    "quantifier": 'quantifier = "uniform" or "pointwise"',
    "sets": 'sets = [["cat", "dog"], ["car"]], or names of groups',
    "singletons": "singletons = true or false",
    "adjacent": "a list of every class once, in order",
    "width": "a whole number, such as width = 2",
    "allowed": 'a table of lists such as cat = ["cat", "dog"]',
    "neighbours": "a list of every class once, in order",
    "degrees": "a whole number of at least 1, such as degrees = 1",
    "within": 'within = [["cat", "dog"], ["car"]], or names of groups',
    "parts": "at least one [[property.parts]] table",
}


class PropertyDocument(Table):
    """A property, with the classes it speaks of and where it is from. Valid by construction.

    Raises:
        pydantic.ValidationError: on construction in Python; :func:`parse_document`,
            :func:`read_document` and :func:`document_of` raise one DocumentError instead.

    Warns:
        UncoveredClassWarning: a class lies in no affinity set.
    """

    relaxcert: Literal[1] = Field(description="Version of the format.")
    name: str = Field(pattern=NAME_PATTERN, max_length=200, description="Name in a catalogue.")
    title: str = Field("", description="One line for people.")
    source: str = Field(pattern=r"\S", description="Where the property is from.")
    notes: str = Field("", description="Whatever a reader should know.")
    num_classes: StrictInt = Field(ge=2, le=100_000, description="Outputs of the network.")
    class_names: tuple[ClassName, ...] | None = Field(
        None, description="One name for each class, in the order of the network's outputs."
    )
    best: Best = Field(
        "max", description="Whether larger or smaller network outputs are better (ACAS Xu: min)."
    )
    groups: dict[str, tuple[ClassReference, ...]] = Field(
        {}, description="Named groups of classes (names or indices), for use in sets and within."
    )
    property: PropertyTable = Field(description="What must hold.")

    _built: Property | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _meaningful(self) -> PropertyDocument:
        self._built = self._build()
        return self

    def to_property(self) -> Property:
        """The property; its affinity sets carry the class names."""
        return self._built if self._built is not None else self._build()

    def check_classes(self, count: int) -> None:
        """Compare the document's number of classes with a network's.

        A property such as Local fits any number of classes; its document states one all the same.

        Raises:
            InvalidProperty: they differ.
        """
        if count != self.num_classes:
            raise InvalidProperty(
                f"the property {self.name!r} is stated for {self.num_classes} classes, but the "
                f"network has {count}: take the network that it is about, or a property for "
                f"{count} classes."
            )

    def to_toml(self) -> str:
        """The document as TOML text, which :func:`parse_document` reads back to an equal one."""
        plain = self.model_dump(exclude_defaults=True)
        return tomli_w.dumps({**plain, "property": kind_first(plain["property"])})

    def _build(self) -> Property:
        with at("class_names"):
            # Any set will do: what is wanted is the library's own check of the names.
            AffinitySets([[0]], self.num_classes, class_names=self.class_names)
        classes = Classes(self.num_classes, self.class_names, self._resolved_groups())
        with at("property"):
            return self.property.build(classes)

    def _resolved_groups(self) -> dict[str, tuple[int, ...]]:
        classes = Classes(self.num_classes, self.class_names, {})
        resolved: dict[str, tuple[int, ...]] = {}
        for group, members in self.groups.items():
            with at(f"groups.{group}"):
                resolved[group] = classes.members(members)
                if len(set(resolved[group])) != len(members) or not members:
                    raise InvalidProperty("a group must name at least one class, and none twice.")
        return resolved


def parse_document(text: str, *, origin: str = "<text>") -> PropertyDocument:
    """Read a property document; ``origin`` names the text in errors.

    Raises:
        DocumentError: not TOML, or not a property document; names origin, field and remedy.
    """
    return _validated(parse_toml(text, origin), origin)


def read_document(path: str | Path) -> PropertyDocument:
    """Read a property document from a file.

    Raises:
        DocumentError: missing, unreadable, larger than 1 MiB, not UTF-8, not TOML, or not a
            property document; names file, field and remedy.
    """
    return parse_document(read_text(path), origin=str(path))


def document_of(
    prop: Property,
    *,
    name: str,
    source: str,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    title: str = "",
    notes: str = "",
    best: Best = "max",
) -> PropertyDocument:
    """The document of any built-in property, whose ``to_property()`` equals ``prop``.

    ``num_classes`` and ``class_names`` may be left out where the property carries them.

    Raises:
        DocumentError: a field is not well formed, the number of classes is not known, or the
            property is of a kind that documents do not have.
    """
    own_count, own_names = classes_of(prop)
    names = own_names if class_names is None else tuple(class_names)
    count = num_classes if num_classes is not None else own_count
    if count is None and names is not None:
        count = len(names)
    origin = f"document_of(..., name={name!r})"
    if count is None:
        raise DocumentError(
            f"{origin}: num_classes is missing, and the property does not say how many classes "
            "there are: pass num_classes=... or class_names=[...]."
        )
    if names is not None and len(names) < max(count, own_count or 0):
        raise DocumentError(
            f"{origin}: class_names has {len(names)} names for {max(count, own_count or 0)} "
            "classes: give one name a class."
        )
    data: dict[str, object] = {
        "relaxcert": 1,
        "name": name,
        "title": title,
        "source": source,
        "notes": notes,
        "num_classes": count,
        "best": best,
        "property": table_of(prop, names),
    }
    if names is not None:
        data["class_names"] = list(names)
    return _validated(data, origin)


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a property document."""
    schema = PropertyDocument.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _validated(data: dict[str, object], origin: str) -> PropertyDocument:
    try:
        return PropertyDocument.model_validate(data)
    except ValidationError as error:
        found = explain(error, data, origin=origin, fields_of=_fields_of, hints=_HINTS)
        raise found from error


def _fields_of(table: Mapping[str | int, object]) -> Iterable[str]:
    kind = table.get("kind")
    if isinstance(kind, str) and kind in FIELDS_OF_KIND:
        return FIELDS_OF_KIND[kind]
    return tuple(PropertyDocument.model_fields)


__all__ = [
    "Best",
    "PropertyDocument",
    "document_of",
    "json_schema",
    "parse_document",
    "read_document",
]
