"""Definitions 1 to 4 of the paper, to the letter, over exact numbers: slow and obvious.

This file is the definition. Every backend is tested against it, so it is written without any of
their ideas: no formula, no margins, no ranks. Logits are sequences of ``Fraction`` (or of anything
that compares exactly), one a class; the ball is represented by the logits of its points x'.

The paper's sets are ``F^k(x) = {j : f_j(x) >= k-th highest logit}``. Where the k-th and the next
logit tie at x, F^k(x) has more than k members. Theorem 1 fails there, so relaxcert lets such a k
certify nothing: ``ties="inadmissible"`` (default). ``ties="literal"`` is the paper's text; whatever
holds with the former holds with the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from relaxcert.errors import InvalidProperty
from relaxcert.spec.affinity import AffinitySets
from relaxcert.spec.ball import Ball
from relaxcert.spec.prefix import Affinity, Local, PrefixProperty, RelaxedTopK, TopK
from relaxcert.spec.property import Conjunction, Disjunction, Property
from relaxcert.spec.ranking import Logits
from relaxcert.spec.targeted import Targeted

Ties = Literal["inadmissible", "literal"]
LogitsIn = Callable[[Ball], Iterable[Logits]]


def top_set(logits: Logits, k: int) -> frozenset[int]:
    """F^k(x) = {j : f_j(x) >= f^k(x)}, where f^k(x) is the k-th highest logit (section 3)."""
    kth_highest = sorted(logits, reverse=True)[k - 1]
    return frozenset(j for j, logit in enumerate(logits) if logit >= kth_highest)


def prediction(logits: Logits) -> frozenset[int]:
    """F(x), the classes with the highest logit: one, unless the top is tied."""
    return top_set(logits, 1)


def definition_1(centre: Logits, ball: Iterable[Logits]) -> bool:
    """Local robustness: for all x', F(x) = F(x')."""
    return all(prediction(centre) == prediction(other) for other in ball)


def definition_2(k: int, centre: Logits, ball: Iterable[Logits]) -> bool:
    """Top-k robustness: for all x', F^k(x) = F^k(x')."""
    return all(top_set(centre, k) == top_set(other, k) for other in ball)


def definition_3(ks: Sequence[int], centre: Logits, ball: Iterable[Logits]) -> bool:
    """RTK robustness: for all x' there is a k (out of ``ks`` = 1..K) with F^k(x) = F^k(x')."""
    return all(any(top_set(centre, k) == top_set(other, k) for k in ks) for other in ball)


def definition_4(
    sets: AffinitySets, ks: Sequence[int], centre: Logits, ball: Iterable[Logits]
) -> bool:
    """Affinity robustness: for all x' there are k, S with F^k(x) = F^k(x') inside S."""
    return all(
        any(
            top_set(centre, k) == top_set(other, k)
            and any(top_set(centre, k) <= set(members) for members in sets.sets)
            for k in ks
        )
        for other in ball
    )


def targeted_safe(allowed: Sequence[int], ball: Iterable[Logits]) -> bool:
    """For all x', F(x') is among the allowed classes."""
    return all(prediction(other) <= set(allowed) for other in ball)


def holds(
    prop: Property, centre: Logits, logits_in: LogitsIn, *, ties: Ties = "inadmissible"
) -> bool:
    """Whether ``prop`` holds at a point, judged on the points that ``logits_in`` lists.

    Args:
        prop: any property, composed or not.
        centre: exact logits at x.
        logits_in: for a ball, the exact logits at its points x' (x itself among them or not).
        ties: see the module's text.
    """
    match prop:
        case Conjunction():
            return all(holds(part, centre, logits_in, ties=ties) for part in prop.parts)
        case Disjunction():
            return any(holds(part, centre, logits_in, ties=ties) for part in prop.parts)
        case Targeted():
            return _targeted_holds(prop, centre, list(logits_in(prop.ball)))
        case PrefixProperty():
            return _prefix_holds(prop, centre, list(logits_in(prop.ball)), ties)
        case _:
            raise InvalidProperty(
                f"{type(prop).__name__} has no reference definition: extend PrefixProperty, or "
                "compose known properties."
            )


def _targeted_holds(prop: Targeted, centre: Logits, ball: list[Logits]) -> bool:
    predicted = prediction(centre)
    if len(predicted) != 1:
        return False
    (label,) = predicted
    return targeted_safe(prop.allowed[label], ball)


def _prefix_holds(prop: PrefixProperty, centre: Logits, ball: list[Logits], ties: Ties) -> bool:
    ks = [
        k
        for k in prop.lengths()
        if k < len(centre) and (ties == "literal" or len(top_set(centre, k)) == k)
    ]
    uniform = prop.quantifier == "uniform"
    match prop:
        case Local():
            return 1 in ks and definition_1(centre, ball)
        case TopK(k=k):
            return k in ks and definition_2(k, centre, ball)
        case RelaxedTopK() if uniform:
            return any(definition_2(k, centre, ball) for k in ks)
        case RelaxedTopK():
            return definition_3(ks, centre, [centre, *ball])
        case Affinity(sets=sets) if uniform:
            return any(definition_4(sets, [k], centre, [centre, *ball]) for k in ks)
        case Affinity(sets=sets):
            return definition_4(sets, ks, centre, [centre, *ball])
        case _:
            return _own_prefix_holds(prop, ks, centre, ball)


def _own_prefix_holds(
    prop: PrefixProperty, ks: Sequence[int], centre: Logits, ball: list[Logits]
) -> bool:
    """A prefix property of the user's own: Definition 4 with its lengths and its sets, if any."""
    sets = prop.affinity_sets
    admitted = [k for k in ks if sets is None or sets.admits(top_set(centre, k))]
    if prop.quantifier == "uniform":
        return any(definition_2(k, centre, ball) for k in admitted)
    return definition_3(admitted, centre, [centre, *ball])
