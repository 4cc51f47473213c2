"""A property as something to attack: targets whose margins an attacker drives to zero or below.

A property is broken by breaking targets; each target may use a point x' of its own:

    top-k set invariance     min over the first k classes j, the others i, of f_j(x') - f_i(x')
    uniform RTK, affinity    every admissible k must be broken, each somewhere in the ball
    pointwise                one x' that breaks every admissible k: the maximum over k
    targeted                 best allowed logit minus best forbidden logit
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxcert.errors import InvalidProperty
from relaxcert.heads.head import PrefixHead, TargetedHead, compile_property
from relaxcert.spec.ball import Ball
from relaxcert.spec.prefix import PrefixProperty
from relaxcert.spec.property import Conjunction, Disjunction, Property
from relaxcert.spec.targeted import Targeted

Margin = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Target:
    """Attack ``margin`` in ``ball``.

    ``applies`` marks the points at which it must be broken. Its margin rests on the sets at x, so
    breaking it says something only where ``certain``: where rounding cannot have confused these.
    ``guaranteed`` is the set that stands while the target does, (batch, classes) bool: F^k, the
    allowed classes, or for pointwise properties the largest F^k that may serve.
    """

    ball: Ball
    margin: Margin
    applies: Tensor
    certain: Tensor
    guaranteed: Tensor


@dataclass(frozen=True)
class Goal:
    """Broken where every child is (``every``), or where some child is; leaves are targets."""

    every: bool
    children: tuple[Goal | Target, ...]

    def targets(self) -> list[Target]:
        """All leaves, in order."""
        found: list[Target] = []
        for child in self.children:
            found += [child] if isinstance(child, Target) else child.targets()
        return found

    def broken(self, verdicts: list[Tensor]) -> Tensor:
        """Combine one bool tensor a leaf (consumed in the order of ``targets``); (batch,)."""
        parts: list[Tensor] = []
        for child in self.children:
            if isinstance(child, Target):
                # A leaf that does not apply is no obstacle: that k cannot serve anyway.
                parts.append((verdicts.pop(0) | ~child.applies) & child.certain)
            else:
                parts.append(child.broken(verdicts))
        stacked = torch.stack(parts)
        return stacked.all(0) if self.every else stacked.any(0)

    def may_count(self, verdicts: list[Tensor], labels: Tensor) -> Tensor:
        """Points that robust accuracy may still count, whatever a better attack would find.

        A part counts while one of its targets stands whose set holds the label; where rounding may
        have confused the sets, anything may. Consumes one bool tensor a leaf, as ``broken``.
        """
        parts: list[Tensor] = []
        for child in self.children:
            if isinstance(child, Target):
                member = child.guaranteed.gather(1, labels[:, None])[:, 0]
                stands = child.applies & ~verdicts.pop(0)
                parts.append((stands & member) | ~child.certain)
            else:
                parts.append(child.may_count(verdicts, labels))
        stacked = torch.stack(parts)
        # Dual to ``broken``: what it takes every child to break, a single one keeps alive.
        return stacked.any(0) if self.every else stacked.all(0)


def goal_of(prop: Property, logits: Tensor, doubt: Tensor | None = None) -> Goal:
    """What must be broken at points whose logits are these, (batch, classes).

    Args:
        prop: the property.
        logits: at the points x.
        doubt: (batch,), how far a computed difference of logits may be from the exact one;
            without it, logits are taken as exact.

    Raises:
        InvalidProperty: a property of an unknown kind.
    """
    match prop:
        case Conjunction():
            return Goal(False, tuple(goal_of(part, logits, doubt) for part in prop.parts))
        case Disjunction():
            return Goal(True, tuple(goal_of(part, logits, doubt) for part in prop.parts))
        case Targeted():
            return Goal(True, (_targeted(prop, logits, doubt),))
        case PrefixProperty():
            return _prefix(prop, logits, doubt)
        case _:
            raise InvalidProperty(
                f"{type(prop).__name__} cannot be attacked: no objective is known."
            )


def _prefix(prop: PrefixProperty, logits: Tensor, doubt: Tensor | None) -> Goal:
    head = compile_property(prop, logits.shape[1])
    if not isinstance(head, PrefixHead):
        raise InvalidProperty(f"{type(prop).__name__} compiled to {type(head).__name__}.")
    top = logits.topk(head.depth, dim=1).indices
    admissible = head.admissible(top)
    masks = [_mask(top[:, :k], logits) for k in range(1, head.depth + 1)]
    # A k that never serves need not be certain.
    certain = [
        _certain(_separation(logits, mask), doubt) | ~serves
        for mask, serves in zip(masks, head.serves.to(logits.device), strict=True)
    ]
    if prop.quantifier == "pointwise":

        def margin(perturbed: Tensor) -> Tensor:
            each = torch.stack([_separation(perturbed, mask) for mask in masks], dim=1)
            return each.masked_fill(~admissible, -math.inf).amax(1)

        every = torch.stack(certain, dim=1).all(1)
        # Admissible sets are nested, so their union is the largest.
        largest = torch.stack(masks, dim=1) & admissible[:, :, None]
        applies = admissible.any(1)
        return Goal(True, (Target(prop.ball, margin, applies, every, largest.any(1)),))
    targets = [
        Target(prop.ball, _separates(mask), admissible[:, index], certain[index], mask)
        for index, mask in enumerate(masks)
    ]
    return Goal(True, tuple(targets))


def _targeted(prop: Targeted, logits: Tensor, doubt: Tensor | None) -> Target:
    head = compile_property(prop, logits.shape[1])
    if not isinstance(head, TargetedHead):
        raise InvalidProperty(f"{type(prop).__name__} compiled to {type(head).__name__}.")
    allowed = head.allowed.to(logits.device)[logits.argmax(1)]

    def margin(perturbed: Tensor) -> Tensor:
        best = perturbed.masked_fill(~allowed, -math.inf).amax(1)
        return best - perturbed.masked_fill(allowed, -math.inf).amax(1)

    lead = _separation(logits, _mask(logits.argmax(1, keepdim=True), logits))
    everywhere = torch.ones_like(allowed[:, 0])
    return Target(prop.ball, margin, everywhere, _certain(lead, doubt), allowed)


def _certain(separation: Tensor, doubt: Tensor | None) -> Tensor:
    return separation > (0.0 if doubt is None else doubt)


def _separates(mask: Tensor) -> Margin:
    return lambda perturbed: _separation(perturbed, mask)


def _separation(logits: Tensor, mask: Tensor) -> Tensor:
    """min over the marked classes minus max over the others."""
    lowest = logits.masked_fill(~mask, math.inf).amin(1)
    return lowest - logits.masked_fill(mask, -math.inf).amax(1)


def _mask(labels: Tensor, logits: Tensor) -> Tensor:
    return torch.zeros_like(logits, dtype=torch.bool).scatter(1, labels, value=True)
