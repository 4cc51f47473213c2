"""Canonical JSON: one text for one meaning, and the digest that stamps certificates and files.

Sorted keys, no spaces, ASCII. Only meaning takes part: the radius is the reduced ratio
(``"3/100"``), sets and parts are sorted, class names and titles are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field, StrictInt, TypeAdapter, ValidationError

from relaxcert.errors import DocumentError, InvalidProperty
from relaxcert.spec.affinity import AffinitySets
from relaxcert.spec.ball import Ball
from relaxcert.spec.explain import explain
from relaxcert.spec.kinds import BallTable, Table, WholeNumber
from relaxcert.spec.prefix import (
    Affinity,
    Local,
    PrefixProperty,
    Quantifier,
    RelaxedTopK,
    TopK,
)
from relaxcert.spec.property import Conjunction, Disjunction, Property
from relaxcert.spec.targeted import Targeted
from relaxcert.spec.toml import check_depth, too_deep

_ORIGIN = "canonical property"


def canonical_json(prop: Property) -> str:
    """Return the canonical JSON of a property: equal properties give equal texts.

    Raises:
        DocumentError: a property of the user's own that is more than its lengths and sets, or a
            composition nested too deep to be read back.
    """
    data = _plain(prop)
    check_depth(data, _ORIGIN)
    return _dumps(data)


def digest(prop: Property) -> str:
    """Return the SHA-256 of the canonical JSON, in hexadecimal.

    Raises the errors of :func:`canonical_json`.
    """
    return hashlib.sha256(canonical_json(prop).encode("utf-8")).hexdigest()


def from_canonical(text: str, *, origin: str = _ORIGIN) -> Property:
    """Return the property that a canonical JSON text denotes; ``origin`` names it in errors.

    Trusts nothing: only the very text that :func:`canonical_json` writes is read.

    Raises:
        DocumentError: not JSON, not a property, not in canonical form, or a property of somebody's
            own (kind ``"prefix"``), whose Python class is needed to judge it.
    """
    try:
        data: object = json.loads(text)
    except RecursionError as error:
        raise too_deep(origin) from error
    except ValueError as error:
        raise DocumentError(
            f"{origin}: not valid JSON ({error}); write it with canonical_json(prop)."
        ) from error
    check_depth(data, origin)
    try:
        prop = _ADAPTER.validate_python(data).build()
    except ValidationError as error:
        hints = {"kind": "it with canonical_json(prop)"}
        raise explain(error, data, origin=origin, fields_of=_fields_of, hints=hints) from error
    except InvalidProperty as error:
        raise DocumentError(f"{origin}: {error}") from error
    if canonical_json(prop) != text:
        raise DocumentError(
            f"{origin}: the text describes a property but is not its canonical form (order, "
            "spacing, defaults or fractions differ); write it with canonical_json(prop)."
        )
    return prop


def _dumps(data: object) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _plain(prop: Property) -> dict[str, object]:
    match prop:
        case Conjunction() | Disjunction():
            kind = "all" if isinstance(prop, Conjunction) else "any"
            try:
                parts = sorted((_plain(part) for part in prop.parts), key=_dumps)
            except RecursionError as error:
                raise too_deep(_ORIGIN) from error
            return {"kind": kind, "parts": parts}
        case Targeted() if type(prop) is Targeted:
            allowed = [list(members) for members in prop.allowed]
            return {"kind": "targeted", "allowed": allowed, **_ball(prop.ball)}
        case PrefixProperty():
            return {**_prefix(prop), **_ball(prop.ball)}
        case _:
            raise DocumentError(
                f"{type(prop).__name__} has no canonical form: extend PrefixProperty, or compose "
                "built-in properties."
            )


def _prefix(prop: PrefixProperty) -> dict[str, object]:
    # Exact types: a subclass may mean something else.
    match prop:
        case Local() if type(prop) is Local:
            return {"kind": "local"}
        case TopK() if type(prop) is TopK:
            return {"kind": "top-k", "k": prop.k}
        case RelaxedTopK() if type(prop) is RelaxedTopK:
            return {"kind": "relaxed-top-k", "k": prop.k, "quantifier": prop.quantifier}
        case Affinity() if type(prop) is Affinity:
            return {"kind": "affinity", "quantifier": prop.quantifier, **_sets(prop.sets)}
        case _:
            return _own_prefix(prop)


def _own_prefix(prop: PrefixProperty) -> dict[str, object]:
    """A prefix property of the user's own is its lengths and its sets, unless it overrides more."""
    kind = type(prop)
    for method in ("formula", "admissible"):
        if getattr(kind, method) is not getattr(PrefixProperty, method):
            raise DocumentError(
                f"{kind.__name__} overrides {method}(), so its lengths and sets do not say what it "
                "means, and it has no canonical form: state it with lengths and affinity_sets."
            )
    sets = prop.affinity_sets
    return {
        "kind": "prefix",
        "lengths": list(prop.lengths()),
        "quantifier": prop.quantifier,
        **(_sets(sets) if sets is not None else {}),
    }


def _ball(ball: Ball) -> dict[str, object]:
    return {"eps": f"{ball.eps.numerator}/{ball.eps.denominator}", "norm": ball.norm}


def _sets(sets: AffinitySets) -> dict[str, object]:
    return {"num_classes": sets.num_classes, "sets": [list(members) for members in sets.sets]}


class _Local(BallTable):
    kind: Literal["local"]

    def build(self) -> Property:
        return Local(eps=self.eps, norm=self.norm)


class _TopK(BallTable):
    kind: Literal["top-k"]
    k: WholeNumber

    def build(self) -> Property:
        return TopK(self.k, eps=self.eps, norm=self.norm)


class _RelaxedTopK(BallTable):
    kind: Literal["relaxed-top-k"]
    k: WholeNumber
    quantifier: Quantifier

    def build(self) -> Property:
        return RelaxedTopK(self.k, eps=self.eps, norm=self.norm, quantifier=self.quantifier)


class _Affinity(BallTable):
    kind: Literal["affinity"]
    num_classes: WholeNumber
    sets: tuple[tuple[StrictInt, ...], ...]
    quantifier: Quantifier

    def build(self) -> Property:
        sets = AffinitySets(self.sets, self.num_classes)
        return Affinity(sets, eps=self.eps, norm=self.norm, quantifier=self.quantifier)


class _Targeted(BallTable):
    kind: Literal["targeted"]
    allowed: tuple[tuple[StrictInt, ...], ...]

    def build(self) -> Property:
        return Targeted(self.allowed, eps=self.eps, norm=self.norm)


class _Prefix(BallTable):
    kind: Literal["prefix"]
    lengths: tuple[StrictInt, ...]
    quantifier: Quantifier
    num_classes: StrictInt | None = None
    sets: tuple[tuple[StrictInt, ...], ...] | None = None

    def build(self) -> Property:
        raise InvalidProperty(
            "this is a property of somebody's own (kind 'prefix'), which text alone does not bring "
            "back: build it with its own Python class and compare digests."
        )


class _All(Table):
    kind: Literal["all"]
    parts: tuple[_Canonical, ...] = Field(min_length=1)

    def build(self) -> Property:
        return Conjunction(*(part.build() for part in self.parts))


class _Any(Table):
    kind: Literal["any"]
    parts: tuple[_Canonical, ...] = Field(min_length=1)

    def build(self) -> Property:
        return Disjunction(*(part.build() for part in self.parts))


_Canonical = Annotated[
    _Local | _TopK | _RelaxedTopK | _Affinity | _Targeted | _Prefix | _All | _Any,
    Field(discriminator="kind"),
]
for _recursive in (_All, _Any):
    _recursive.model_rebuild()
_ADAPTER: TypeAdapter[_Canonical] = TypeAdapter(_Canonical)


def _fields_of(table: Mapping[str | int, object]) -> Iterable[str]:
    models: dict[object, type[Table]] = {
        "local": _Local,
        "top-k": _TopK,
        "relaxed-top-k": _RelaxedTopK,
        "affinity": _Affinity,
        "targeted": _Targeted,
        "prefix": _Prefix,
        "all": _All,
        "any": _Any,
    }
    kind = table.get("kind")
    return models[kind].model_fields if isinstance(kind, str) and kind in models else ("kind",)
