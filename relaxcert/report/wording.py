"""A property in words and as a formula, from its canonical form; levels and their assumptions."""

# ruff: noqa: RUF001 - formulas are written with the signs of mathematics
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from relaxcert.errors import DataError
from relaxcert.spec.ball import format_eps

# Marks in formulas that the page sets as superscript, subscript: F^{k}, ||.||_{2}.
_NORMS = {"l2": "2", "linf": "∞", "l1": "1"}


@dataclass(frozen=True)
class Statement:
    """What must hold around a point.

    Attributes:
        title: a few words.
        words: one or two sentences.
        formula: with ``^{...}`` and ``_{...}`` as in TeX, else Unicode.
        ball: the ball as a formula; empty for compositions.
        sets: affinity sets, or what may be predicted around each class, as lists of class names.
        parts: of a composition.
    """

    title: str
    words: str
    formula: str
    ball: str = ""
    sets: tuple[tuple[str, ...], ...] = ()
    parts: tuple[Statement, ...] = ()


def statement(prop: Mapping[str, Any], names: Sequence[str]) -> Statement:
    """Say what a canonical property means, for classes of these names.

    Raises:
        DataError: not a canonical property.
    """
    try:
        return _statement(prop, names)
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise DataError(
            f"property {str(prop)[:80]!r} is not in canonical form ({error})."
        ) from error


def eps_of(prop: Mapping[str, Any]) -> Fraction | None:
    """The radius of the property's balls, None where they differ."""
    if "parts" in prop:
        radii = {eps_of(part) for part in prop["parts"]}
        return radii.pop() if len(radii) == 1 else None
    return Fraction(prop["eps"])


def norm_of(prop: Mapping[str, Any]) -> str | None:
    """The norm of the property's balls, None where they differ."""
    if "parts" in prop:
        norms = {norm_of(part) for part in prop["parts"]}
        return norms.pop() if len(norms) == 1 else None
    return str(prop["norm"])


def affinity_sets(prop: Mapping[str, Any]) -> list[list[int]] | None:
    """The affinity sets of a property, or of all parts of a composition; None if it has none."""
    if "parts" in prop:
        found = [sets for part in prop["parts"] if (sets := affinity_sets(part))]
        return [members for sets in found for members in sets] or None
    return prop.get("sets")


def _statement(prop: Mapping[str, Any], names: Sequence[str]) -> Statement:
    kind = prop["kind"]
    if kind in ("all", "any"):
        parts = tuple(_statement(part, names) for part in prop["parts"])
        every = kind == "all"
        return Statement(
            title=(" and " if every else " or ").join(part.title for part in parts),
            words=f"{'All' if every else 'At least one'} of these {len(parts)} statements "
            f"{'hold' if every else 'holds'}, each on its own ball.",
            formula=(" ∧ " if every else " ∨ ").join(f"({i + 1})" for i in range(len(parts))),
            parts=parts,
        )
    ball = (
        f"B = {{ x′ : ‖x′ − x‖_{{{_NORMS[prop['norm']]}}} ≤ {format_eps(Fraction(prop['eps']))} }}"
    )
    if kind == "targeted":
        return _targeted(prop, names, ball)
    return _prefix(kind, prop, names, ball)


def _targeted(prop: Mapping[str, Any], names: Sequence[str], ball: str) -> Statement:
    allowed: list[list[int]] = prop["allowed"]
    return Statement(
        "Targeted safety",
        "Everywhere in the ball the predicted class is one that is allowed around the prediction "
        "at x.",
        "∀ x′ ∈ B:  F(x′) ∈ A(F(x))",
        ball,
        tuple(
            (f"around {name}", *(names[label] for label in members))
            for name, members in zip(names, allowed, strict=True)
        ),
    )  # fmt: skip


def _prefix(kind: str, prop: Mapping[str, Any], names: Sequence[str], ball: str) -> Statement:
    if kind == "local":
        words = "The predicted class is the same everywhere in the ball (Definition 1)."
        return Statement("Local robustness", words, "∀ x′ ∈ B:  F(x′) = F(x)", ball)
    if kind == "top-k":
        k = prop["k"]
        words = f"The set of the {k} highest classes is the same everywhere in the ball"
        formula = f"∀ x′ ∈ B:  F^{{{k}}}(x′) = F^{{{k}}}(x)"
        return Statement(f"Top-{k} robustness", f"{words} (Definition 2).", formula, ball)
    inside = "S ⊇ F^{k}(x), S an affinity set"
    if kind == "relaxed-top-k":
        title, source = f"Relaxed top-{prop['k']} robustness", "Definition 3"
        which, serves = f"some k of at most {prop['k']}", f"k ∈ {{1, …, {prop['k']}}}"
    elif kind == "affinity":
        title, source = "Affinity robustness", "Definition 4"
        which = "some k for which these classes lie inside one affinity set"
        serves = f"k, {inside}"
    else:
        lengths = ", ".join(map(str, prop["lengths"]))
        title, source = "Prefix property", "of the user's own"
        which = f"some k of {lengths}" + (" inside one affinity set" if "sets" in prop else "")
        serves = f"k ∈ {{{lengths}}}" + (f", {inside}" if "sets" in prop else "")
    same = "F^{k}(x′) = F^{k}(x)"
    if prop["quantifier"] == "uniform":
        words = (
            "The set of the k highest classes is the same everywhere in the ball, for "
            f"{which}; one k serves the whole ball ({source})."
        )
        formula = f"∃ {serves}:  ∀ x′ ∈ B:  {same}"
    else:
        words = (
            "At each point of the ball the set of the k highest classes is that at x, for "
            f"{which}; each point of the ball may have its own k ({source}, read pointwise)."
        )
        formula = f"∀ x′ ∈ B:  ∃ {serves}:  {same}"
    listed: list[list[int]] = prop.get("sets", [])
    sets = tuple(tuple(names[label] for label in members) for members in listed)
    return Statement(title, words, formula, ball, sets)


_ASSUMED = (
    "IEEE-754 arithmetic where it was certified",
    "matrix products computed as conventional sums of products",
    "weights not changed while certifying",
    "no preprocessing outside the network",
)
_DEPLOYED = (
    "the deployment rounds to nearest, with gradual underflow",
    "it computes products and convolutions as plain sums of products in any order, with or without "
    "fused multiply-add (no TF32, Winograd, Fourier transforms or autocast)",
)


@dataclass(frozen=True)
class Level:
    """What a level of guarantee says, and what it assumes."""

    claim: str
    assumptions: tuple[str, ...]
    not_claimed: str


def level_of(name: str) -> Level:
    """What the level of a run means: ``R``, ``D(float32)``, ``D(float64)``."""
    real = (
        "For every real x′ in the ball around a certified point, the property holds for the "
        "real-arithmetic function of the stored weights; where a set is reported, its classes "
        "strictly outscore all others on the whole ball."
    )
    if name.startswith("D"):
        kind = name.removeprefix("D(").removesuffix(")")
        return Level(
            f"{real} And for every x′ of the ball that is representable in {kind}, the logits "
            f"computed in {kind} have the stated order.",
            (*_ASSUMED, *_DEPLOYED),
            "Nothing is said of points outside the balls, nor that a label is right.",
        )
    return Level(
        real,
        _ASSUMED,
        "Not what a float32 deployment computes at points other than x (level D says that), "
        "nothing of points outside the balls, nor that a label is right.",
    )
