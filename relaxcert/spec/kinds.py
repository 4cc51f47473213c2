"""The kinds of property as tables of a document: what may be written, and what it means.

Each kind is a pydantic model with a method ``build`` that gives the property for the classes of
its document. A new kind is a model here, one entry in ``PropertyTable``, and its inverse in
:mod:`relaxcert.spec.writing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)

from relaxcert.errors import InvalidProperty
from relaxcert.spec.affinity import AffinitySets
from relaxcert.spec.ball import Norm, parse_eps
from relaxcert.spec.classes import Classes
from relaxcert.spec.explain import at
from relaxcert.spec.prefix import Affinity, Local, Quantifier, RelaxedTopK, TopK
from relaxcert.spec.property import Conjunction, Disjunction, Property
from relaxcert.spec.targeted import Targeted


def _text_only(value: object) -> object:
    if isinstance(value, int | float):
        shown = value if not isinstance(value, bool) and 0 < value < 1e300 else "0.03"
        raise ValueError(  # noqa: TRY004  pydantic takes no TypeError
            f'eps={value!r} must be text, so that it is exact: write eps = "{shown}" in quotes.'
        )
    return value


def _readable(value: str) -> str:
    parse_eps(value)
    return value


def _class_reference(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(  # noqa: TRY004  pydantic takes no TypeError
            f"class {value!r} must be an index (a whole number) or a class name (text)."
        )
    return value


EpsText = Annotated[
    str,
    BeforeValidator(_text_only),
    AfterValidator(_readable),
    Field(
        description="Radius in units of the network's input, as text: a decimal or an exact ratio.",
        examples=["0.03", "36/255"],
    ),
]
ClassReference = Annotated[int | str, BeforeValidator(_class_reference)]
SetReference = Annotated[
    tuple[ClassReference, ...] | str,
    Field(description="A list of classes (names or indices), or the name of a group."),
]
WholeNumber = Annotated[StrictInt, Field(ge=1)]


class Table(BaseModel):
    """A table of a document: no unknown fields, frozen."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class BallTable(Table):
    """What every kind that speaks of one ball has."""

    eps: EpsText
    norm: Norm = Field("l2", description="Norm of the input space.")


class LocalTable(BallTable):
    """The prediction is the same on the whole ball (Definition 1)."""

    kind: Literal["local"]

    def build(self, classes: Classes) -> Property:
        """The property for these classes."""
        return _checked(Local(eps=self.eps, norm=self.norm), classes)


class TopKTable(BallTable):
    """The set of the k highest classes is unchanged on the ball (Definition 2)."""

    kind: Literal["top-k"]
    k: WholeNumber

    def build(self, classes: Classes) -> Property:
        """The property for these classes."""
        with at("k"):
            return _checked(TopK(self.k, eps=self.eps, norm=self.norm), classes)


class RelaxedTopKTable(BallTable):
    """One of the sets F^1..F^k is unchanged on the ball (Definition 3)."""

    kind: Literal["relaxed-top-k"]
    k: WholeNumber
    quantifier: Quantifier = "uniform"

    def build(self, classes: Classes) -> Property:
        """The property for these classes."""
        prop = RelaxedTopK(self.k, eps=self.eps, norm=self.norm, quantifier=self.quantifier)
        with at("k"):
            return _checked(prop, classes)


class AffinityTable(BallTable):
    """An F^k inside an affinity set is unchanged on the ball (Definition 4).

    Give either ``sets``, or ``adjacent`` for all runs of ``width`` neighbours in an order.
    """

    kind: Literal["affinity"]
    sets: tuple[SetReference, ...] = ()
    singletons: StrictBool = Field(
        default=False, description="With sets: each class in none becomes a set of its own."
    )
    adjacent: tuple[ClassReference, ...] = Field((), description="Every class once, in order.")
    width: WholeNumber = Field(2, description="With adjacent: how many neighbours make a set.")
    quantifier: Quantifier = "uniform"

    @model_validator(mode="after")
    def _consistent(self) -> AffinityTable:
        _exactly_one(self, "sets", "adjacent")
        _goes_with(self, "singletons", "sets")
        _goes_with(self, "width", "adjacent")
        return self

    def build(self, classes: Classes) -> Property:
        """The property for these classes."""
        sets = self._affinity_sets(classes)
        prop = Affinity(sets, eps=self.eps, norm=self.norm, quantifier=self.quantifier)
        return _checked(prop, classes)

    def _affinity_sets(self, classes: Classes) -> AffinitySets:
        if self.adjacent:
            with at("adjacent"):
                order = classes.order(self.adjacent)
            with at("width"):
                return AffinitySets.adjacent(order, width=self.width, class_names=classes.names)
        sets = classes.sets(self.sets, "sets")
        if not self.singletons:
            return sets
        alone = [[label] for label in sets.uncovered]
        return AffinitySets([*sets.sets, *alone], classes.count, class_names=classes.names)


class TargetedTable(BallTable):
    """The prediction moves only to allowed classes (targeted-safe region).

    Give one of: ``allowed``, a table from each class to a list of classes; ``neighbours``, an order
    along which up to ``degrees`` steps are allowed; ``within``, sets whose members may take each
    other's place.
    """

    kind: Literal["targeted"]
    allowed: dict[str, tuple[ClassReference, ...]] = {}
    neighbours: tuple[ClassReference, ...] = Field((), description="Every class once, in order.")
    degrees: WholeNumber = Field(1, description="With neighbours: how many steps are allowed.")
    within: tuple[SetReference, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> TargetedTable:
        _exactly_one(self, "allowed", "neighbours", "within")
        _goes_with(self, "degrees", "neighbours")
        return self

    def build(self, classes: Classes) -> Property:
        """The property for these classes."""
        if self.neighbours:
            with at("neighbours"):
                order = classes.order(self.neighbours)
                prop = Targeted.neighbours(
                    order, eps=self.eps, norm=self.norm, degrees=self.degrees
                )
        elif self.within:
            sets = classes.sets(self.within, "within")
            with at("within"):
                prop = Targeted.within(sets, eps=self.eps, norm=self.norm)
        else:
            with at("allowed"):
                prop = Targeted(self._allowed(classes), eps=self.eps, norm=self.norm)
        return _checked(prop, classes)

    def _allowed(self, classes: Classes) -> list[tuple[int, ...]]:
        allowed: dict[int, tuple[int, ...]] = {}
        for key, members in self.allowed.items():
            label = classes.key(key)
            if label in allowed:
                raise InvalidProperty(f"class {key!r} has two entries: keep one.")
            with at(key):
                allowed[label] = classes.members(members)
        for label in range(classes.count):
            if label not in allowed:
                name = str(label) if classes.names is None else classes.names[label]
                raise InvalidProperty(
                    f"class {name!r} has no entry: add it with the classes that may be predicted "
                    "around its points, itself among them."
                )
        return [allowed[label] for label in range(classes.count)]


class AllTable(Table):
    """All parts hold, each on its own ball."""

    kind: Literal["all"]
    parts: tuple[PropertyTable, ...] = Field(min_length=1)

    def build(self, classes: Classes) -> Property:
        """The property for these classes."""
        return Conjunction(*_built(self.parts, classes))


class AnyTable(Table):
    """At least one part holds, each on its own ball."""

    kind: Literal["any"]
    parts: tuple[PropertyTable, ...] = Field(min_length=1)

    def build(self, classes: Classes) -> Property:
        """The property for these classes."""
        return Disjunction(*_built(self.parts, classes))


PropertyTable = Annotated[
    LocalTable | TopKTable | RelaxedTopKTable | AffinityTable | TargetedTable | AllTable | AnyTable,
    Field(discriminator="kind"),
]
for _recursive in (AllTable, AnyTable):
    _recursive.model_rebuild()

FIELDS_OF_KIND: dict[str, tuple[str, ...]] = {
    "local": tuple(LocalTable.model_fields),
    "top-k": tuple(TopKTable.model_fields),
    "relaxed-top-k": tuple(RelaxedTopKTable.model_fields),
    "affinity": tuple(AffinityTable.model_fields),
    "targeted": tuple(TargetedTable.model_fields),
    "all": tuple(AllTable.model_fields),
    "any": tuple(AnyTable.model_fields),
}


def _checked(prop: Property, classes: Classes) -> Property:
    prop.check(classes.count)
    return prop


def _built(parts: Sequence[PropertyTable], classes: Classes) -> list[Property]:
    built: list[Property] = []
    for place, part in enumerate(parts):
        with at(f"parts[{place}]"):
            built.append(part.build(classes))
    return built


def _exactly_one(table: Table, *fields: str) -> None:
    given = [field for field in fields if getattr(table, field)]
    if len(given) != 1:
        raise ValueError(
            f"exactly one of {', '.join(fields)} must be given and not empty, "
            f"found {' and '.join(given) or 'none'}."
        )


def _goes_with(table: Table, field: str, companion: str) -> None:
    if field in table.model_fields_set and not getattr(table, companion):
        raise ValueError(f"{field} only goes with {companion}: remove {field}.")
