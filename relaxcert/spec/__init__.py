"""Floor 1: what must hold. Properties, affinity sets, formulas, documents; no torch, no network."""

from relaxcert.spec.affinity import AffinitySets
from relaxcert.spec.ball import Ball, EpsLike, Norm, format_eps, parse_eps
from relaxcert.spec.canonical import canonical_json, digest, from_canonical
from relaxcert.spec.catalogue import load_document, load_property
from relaxcert.spec.documents import (
    Best,
    PropertyDocument,
    document_of,
    json_schema,
    parse_document,
    read_document,
)
from relaxcert.spec.formula import AllOf, AnyOf, Beats, Formula, Throughout
from relaxcert.spec.prefix import (
    Affinity,
    Local,
    PrefixProperty,
    Quantifier,
    RelaxedTopK,
    TopK,
)
from relaxcert.spec.property import Conjunction, Disjunction, Property
from relaxcert.spec.ranking import Ranking
from relaxcert.spec.targeted import Targeted

__all__ = [
    "Affinity",
    "AffinitySets",
    "AllOf",
    "AnyOf",
    "Ball",
    "Beats",
    "Best",
    "Conjunction",
    "Disjunction",
    "EpsLike",
    "Formula",
    "Local",
    "Norm",
    "PrefixProperty",
    "Property",
    "PropertyDocument",
    "Quantifier",
    "Ranking",
    "RelaxedTopK",
    "Targeted",
    "Throughout",
    "TopK",
    "canonical_json",
    "digest",
    "document_of",
    "format_eps",
    "from_canonical",
    "json_schema",
    "load_document",
    "load_property",
    "parse_document",
    "parse_eps",
    "read_document",
]
