"""Strategies for documents; the others are relaxcert's own, shipped for everyone."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from relaxcert.spec import format_eps
from relaxcert.testing import strategies
from relaxcert.testing.strategies import (
    Scene,
    affinity_sets,
    logits,
    points_around,
    properties,
    scenes,
    subsets,
    targeted,
)

__all__ = [
    "Scene",
    "affinity_sets",
    "class_counts",
    "class_names",
    "document_data",
    "eps_likes",
    "logits",
    "norms",
    "points_around",
    "properties",
    "scenes",
    "targeted",
]

norms = strategies.norms()
quantifiers = strategies.quantifiers()
eps_likes = strategies.eps_likes()
class_counts = st.integers(3, 6)

ratios = st.fractions(min_value=Fraction(1, 10**6), max_value=1000, max_denominator=10**6)
decimal_texts = st.decimals(min_value="0.0001", max_value="9999", places=4).map(str)
ratio_texts = st.tuples(st.integers(1, 999), st.integers(1, 999)).map(lambda p: f"{p[0]}/{p[1]}")
eps_texts = st.one_of(decimal_texts, ratio_texts, ratios.map(format_eps))


class_names_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(
    lambda text: text + "x"
)


def class_names(count: int) -> st.SearchStrategy[list[str]]:
    """Distinct names with anything in them: quotes, line ends, digits, other scripts."""
    digits = st.integers(0, 20).map(str)
    return st.lists(
        st.one_of(class_names_text, digits), min_size=count, max_size=count, unique=True
    )


@st.composite
def tables(draw, count: int, groups: tuple[str, ...]) -> dict[str, object]:
    """A ``[property]`` table in any of the spellings that only documents have."""
    table: dict[str, object] = {"eps": draw(eps_texts), "norm": draw(norms)}
    order = draw(st.permutations(range(count)))
    cut = draw(st.integers(1, count - 1))
    partition = [list(order[:cut]), list(order[cut:])]
    match draw(st.sampled_from(["adjacent", "sets", "neighbours", "within", "any"])):
        case "adjacent":
            width = draw(st.integers(2, count - 1))
            return {**table, "kind": "affinity", "adjacent": order, "width": width}
        case "sets":
            sets = [*draw(st.lists(subsets(count), max_size=2)), *groups]
            return {**table, "kind": "affinity", "sets": sets, "singletons": True}
        case "neighbours":
            return {**table, "kind": "targeted", "neighbours": order, "degrees": 1}
        case "within":
            return {**table, "kind": "targeted", "within": partition}
        case _:
            parts = [{**table, "kind": "local"}, {**table, "kind": "affinity", "sets": partition}]
            return {"kind": draw(st.sampled_from(["all", "any"])), "parts": parts}


document_names = st.from_regex(r"[a-z0-9]{1,4}(-[a-z]{1,3})?(/[a-z0-9]{1,5})?", fullmatch=True)


@st.composite
def document_data(draw) -> dict[str, object]:
    """The plain data of a valid property document."""
    count = draw(st.integers(4, 6))
    groups = {"some group": draw(subsets(count))}
    data: dict[str, object] = {
        "relaxcert": 1,
        "name": draw(
            st.from_regex(r"[a-z0-9]{1,4}(-[a-z]{1,3})?(/[a-z0-9]{1,5})?", fullmatch=True)
        ),
        "title": draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=10)),
        "source": draw(class_names_text),
        "num_classes": count,
        "best": draw(st.sampled_from(["max", "min"])),
        "groups": groups,
        "property": draw(tables(count, tuple(groups))),
    }
    if draw(st.booleans()):
        data["class_names"] = draw(class_names(count))
    return data
