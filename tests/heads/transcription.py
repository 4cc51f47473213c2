"""Equations 1, 4 and 5 of the paper, letter by letter: loops over classes, exact numbers.

Ties are the one departure (design, section 1): a k whose k-th and next logit are equal serves
nothing, because F^k then has more than k members.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

NEVER = Fraction(-(10**9))  # stands for minus infinity

Logits = Sequence[Fraction]
Constants = Sequence[Sequence[Fraction]]


def top(f: Logits, k: int) -> set[int]:
    """F^k(x)."""
    kth = sorted(f, reverse=True)[k - 1]
    return {j for j in range(len(f)) if f[j] >= kth}


def m_jk(f: Logits, eps: Fraction, K: Constants, k: int, j: int) -> Fraction:
    """m_j^k(x) = f_j(x) - max over i not in F^k(x) of f_i(x) + eps K_ji."""
    return f[j] - max(f[i] + eps * K[j][i] for i in range(len(f)) if i not in top(f, k))


def m_k(f: Logits, eps: Fraction, K: Constants, k: int) -> Fraction:
    """m^k(x) = min over j in F^k(x) of m_j^k(x)."""
    if len(top(f, k)) != k:
        return NEVER
    return min(m_jk(f, eps, K, k, j) for j in top(f, k))


def m_rtk(f: Logits, eps: Fraction, K: Constants, ks: Sequence[int]) -> Fraction:
    """m(x) = max over k of m^k(x); ks = 1..K for RTK, {k} for top-k, {1} for local."""
    return max(m_k(f, eps, K, k) for k in ks)


def m_affinity(f: Logits, eps: Fraction, K: Constants, sets: Sequence[Sequence[int]]) -> Fraction:
    """Equation 4: the maximum over k such that F^k(x) lies inside some S."""
    largest = max(map(len, sets))
    margins = [
        m_k(f, eps, K, k)
        for k in range(1, largest + 1)
        if any(top(f, k) <= set(members) for members in sets)
    ]
    return max(margins, default=NEVER)


def m_targeted(
    f: Logits, eps: Fraction, K: Constants, allowed: Sequence[Sequence[int]]
) -> Fraction:
    """Not in the paper: each forbidden class is outscored by one allowed class throughout."""
    if len(top(f, 1)) != 1:
        return NEVER
    (label,) = top(f, 1)
    forbidden = [i for i in range(len(f)) if i not in allowed[label]]
    return min(max(f[j] - f[i] - eps * K[j][i] for j in allowed[label]) for i in forbidden)


def g_bottom(f: Logits, margin: Fraction) -> Fraction:
    """Equations 1 and 5: g_bottom(x) = max_i { f_i(x) - m }."""
    return max(value - margin for value in f)
