"""What a property asks at one point, evaluated from its canonical JSON alone.

A link L[j, i] is a lower bound of f_j - f_i on the whole ball. AND is min, OR is max, and a margin
above 0 proves the property. Ranks are those of the logits at x; that the order is certain where it
matters is itself asked of links (a positive link on the ball is one at x).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from flint import arb

from relaxcert.checker.certificate import NORMS, canonical
from relaxcert.checker.outcome import Rejected, Unreadable

Radius = Fraction | float
Link = Callable[[str, Radius, int, int], arb]
NOTHING = arb(float("-inf"))
_FIELDS = {
    "local": {"eps", "norm"},
    "top-k": {"eps", "norm", "k"},
    "relaxed-top-k": {"eps", "norm", "k", "quantifier"},
    "affinity": {"eps", "norm", "num_classes", "sets", "quantifier"},
    "targeted": {"eps", "norm", "allowed"},
    "all": {"parts"},
    "any": {"parts"},
}


def digest_of(prop: Any) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(prop).encode()).hexdigest()


def check_property(prop: Any, classes: int, depth: int = 0) -> None:
    """Raise Rejected unless this is a property of so many classes that could fail at all."""
    kind = prop.get("kind") if isinstance(prop, dict) else None
    if not isinstance(kind, str) or kind not in _FIELDS or depth > 32:
        raise Unreadable(
            f"property of kind {str(kind)[:80]!r}: this checker knows {', '.join(_FIELDS)}."
        )
    if prop.keys() - {"kind"} != _FIELDS[kind]:
        raise Rejected("property", f"{kind} has fields {sorted(prop)}.")
    if kind in ("all", "any"):
        if not isinstance(prop["parts"], list) or not prop["parts"]:
            raise Rejected("property", f"{kind} has no parts.")
        for part in prop["parts"]:
            check_property(part, classes, depth + 1)
        return
    eps_of(prop)
    if prop["norm"] not in NORMS or prop.get("quantifier", "uniform") not in (
        "uniform",
        "pointwise",
    ):
        raise Rejected("property", "its norm or quantifier is unknown.")
    k = prop.get("k", 1)
    if type(k) is not int or not 1 <= k < classes:
        raise Rejected("property", f"k={k!r:.80} is not from 1 to {classes - 1}.")
    _check_sets(kind, prop, classes)


def _check_sets(kind: str, prop: Any, classes: int) -> None:
    sets = prop.get("sets", prop.get("allowed", [[0]]))
    if not isinstance(sets, list) or not all(isinstance(members, list) for members in sets):
        raise Rejected("property", "its sets are no lists.")
    for members in sets:
        valid = all(type(label) is int and 0 <= label < classes for label in members)
        if not members or not valid or not len(set(members)) < classes:
            raise Rejected("property", f"{members!r:.80} is no set of some of {classes} classes.")
    if kind == "affinity" and (prop["num_classes"] != classes or not sets):
        raise Rejected("property", f"it is not written for {classes} classes.")
    if kind == "targeted" and (
        len(sets) != classes or any(label not in allowed for label, allowed in enumerate(sets))
    ):
        raise Rejected("property", f"it does not allow each of {classes} classes for itself.")


def norms_of(prop: Any) -> set[str]:
    """The norms of all balls of a property that was checked."""
    return {prop["norm"]} if "norm" in prop else set().union(*map(norms_of, prop["parts"]))


def eps_of(prop: Any) -> Fraction:
    """The radius, a reduced ratio greater than 0."""
    top, _, bottom = str(prop["eps"]).partition("/")
    try:
        eps = Fraction(int(top), int(bottom))
    except (ValueError, ZeroDivisionError) as error:
        raise Rejected("property", f"eps {prop['eps']!r:.80} is no ratio.") from error
    if eps <= 0 or f"{eps.numerator}/{eps.denominator}" != prop["eps"]:
        raise Rejected("property", f"eps {prop['eps']!r:.80} is not a reduced ratio above 0.")
    return eps


@dataclass(frozen=True, slots=True)
class Finding:
    """The margin that is proved; for properties of one ball, which k and sets are."""

    margin: arb
    prefixes: dict[int, frozenset[int]]


def evaluate(prop: Any, logits: Sequence[arb], link: Link, radius: Radius | None) -> Finding:
    """Evaluate at a point; a ``radius`` takes the place of every eps."""
    kind = prop["kind"]
    if kind in ("all", "any"):
        margins = [evaluate(part, logits, link, radius).margin for part in prop["parts"]]
        return Finding(min(margins) if kind == "all" else max(margins), {})
    eps = eps_of(prop) if radius is None else radius
    order = sorted(range(len(logits)), key=lambda label: (-float(logits[label].mid()), label))

    def on_ball(winner: int, loser: int) -> arb:
        return link(prop["norm"], eps, winner, loser)

    if kind == "targeted":
        return _targeted(prop["allowed"], order, on_ball, prop["norm"], link)
    return _prefix(prop, order, on_ball, link)


def _targeted(
    allowed: list[list[int]],
    order: list[int],
    on_ball: Callable[[int, int], arb],
    norm: str,
    link: Link,
) -> Finding:
    """Each forbidden class is beaten by an allowed one; which are allowed hangs on the top at x."""
    top = order[0]
    lead = min(link(norm, Fraction(0), top, i) for i in order[1:])
    forbidden = [i for i in order if i not in allowed[top]]
    margin = min(max(on_ball(j, i) for j in allowed[top]) for i in forbidden)
    return Finding(margin if lead > 0 else min(margin, lead), {0: frozenset(allowed[top])})


def _prefix(prop: Any, order: list[int], on_ball: Callable[[int, int], arb], link: Link) -> Finding:
    """One F^k, of those that may serve, is unchanged: m_k = min of L[a, b] over a < k <= b."""
    sets = [set(members) for members in prop["sets"]] if prop["kind"] == "affinity" else None
    deepest = prop.get("k", 1) if sets is None else max(len(members) for members in sets)
    shortest = deepest if prop["kind"] == "top-k" else 1
    links = [[on_ball(order[a], i) if a != b else NOTHING for b, i in enumerate(order)]
             for a in range(deepest)]  # fmt: skip
    centre = [[link(prop["norm"], Fraction(0), order[a], i) for i in order] for a in
              range(deepest)] if prop.get("quantifier") == "pointwise" else None  # fmt: skip
    margin, found, unbroken = NOTHING, dict[int, frozenset[int]](), centre is not None
    covered: dict[int, arb] = {}
    for k in range(1, deepest + 1):
        first = frozenset(order[:k])
        serves = k >= shortest and (sets is None or any(first <= members for members in sets))
        tails = [min(row[k:]) for row in links[:k]]
        whole = min(tails)
        if serves:
            margin = max(margin, whole)
            if whole > 0:
                found[k] = first
        if centre is not None:
            unbroken = unbroken and all(gap > 0 for row in centre[:k] for gap in row[k:])
            if serves and unbroken:
                margin = max(margin, _chain(tails, covered))
            if 2 <= k < deepest:
                covered[k] = _chain([links[a][k] for a in range(k)], covered)
    return Finding(margin, found)


def _chain(reach: list[arb], covered: dict[int, arb]) -> arb:
    """The weakest over chains of the best link, for chains of reversed links up to one right end.

    ``reach[a]`` is the link of rank a over that end; ``covered[p]`` the same value for the chains
    that end at rank p. An x' that breaks F^1..F^k reverses links (a, b] that cover the boundaries
    1..k, the first from rank 0, each overlapping the one before it; it needs all of its links, so
    one proved link a chain excludes it.
    """
    best = reach[0]
    for end, proved in covered.items():
        best = min(best, max(proved, min(reach[1:end])))
    return best
