"""One kind of layer, one rule: the registry through which bounds are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.spec.ball import Norm

Layer = TypeVar("Layer", bound=nn.Module)
RuleType = TypeVar("RuleType", bound="Rule[Any]")


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper bound of a layer's Lipschitz constant, and by which method it was proved."""

    value: float
    method: str


@dataclass(frozen=True, slots=True)
class Rounding:
    """How much rounding a layer adds, in the norm of the ball.

    For computed input h and computed output z, each with the norm's vector norm,

        ||computed - exact layer at h|| <= gamma_n (input_gain ||h|| + output_gain ||z|| + offset)
                                           + n eta ||ones||,           n = ``operations``

    for every order of summation, with or without fused multiply-add. ``operations`` = 0 says that
    the layer rounds nothing (comparisons, copies, sign changes).

    A layer that acts on the last dimension (nn.Linear) adds its bias once for each place of the
    others: ``offset`` is then the norm of one bias. With ``offset_is_total`` it is that of all.
    """

    operations: int = 0
    input_gain: float = 0.0
    output_gain: float = 0.0
    offset: float = 0.0
    offset_is_total: bool = False


class Rule(ABC, Generic[Layer]):
    """What relaxcert must know of a kind of layer; see :func:`rule`.

    Methods get the layer in float64 on the CPU for ``verified`` and ``rounding``, and the live
    layer for ``estimate``. A rule whose bounds depend on the shape of the layer's input (as those
    of convolutions do) sets ``needs_shape`` and keeps the shape in :meth:`at`; all others hold for
    every shape.
    """

    needs_shape: ClassVar[bool] = False

    def at(self, shape: tuple[int, ...]) -> Rule[Layer]:
        """The rule for inputs of this shape (one point, without the batch); here: the same."""
        del shape
        return self

    @abstractmethod
    def verified(self, layer: Layer, norm: Norm) -> Bound:
        """An upper bound of the Lipschitz constant in ``norm``, valid in real arithmetic.

        Raises InvalidWeights for weights that are empty or not finite, and UnsupportedLayer where
        no bound is known in this norm.
        """

    @abstractmethod
    def estimate(
        self, layer: Layer, norm: Norm, iterate: Tensor | None
    ) -> tuple[Tensor | float, Tensor | None]:
        """A differentiable estimate of the same constant, and the next power iterate.

        Pure: no host synchronisation, nothing written in place.
        """

    @abstractmethod
    def rounding(self, layer: Layer, norm: Norm) -> Rounding:
        """The rounding terms of the layer's forward pass."""

    def initial_iterate(self, layer: Layer) -> Tensor | None:
        """The vector from which ``estimate`` starts, kept as a buffer; None if it needs none."""
        del layer
        return None


_RULES: dict[type[nn.Module], Rule[Any]] = {}


def rule(*kinds: type[nn.Module]) -> Callable[[type[RuleType]], type[RuleType]]:
    """Register a rule for one or more kinds of layer: ``@lipschitz.rule(nn.Conv2d)``.

    A rule applies to exactly these types, never to subclasses: a subclass may compute something
    else in its ``forward``.
    """

    def register(rule_type: type[RuleType]) -> type[RuleType]:
        instance = rule_type()
        for kind in kinds:
            _RULES[kind] = instance
        return rule_type

    return register


def rule_for(layer: nn.Module, path: str) -> Rule[Any]:
    """Return the rule of a layer.

    Raises:
        UnsupportedLayer: there is none, or the layer was changed so that its type says nothing
            (hooks, a ``forward`` of its own); names the path and the remedy.
    """
    refuse_if_patched(layer, path)
    found = _RULES.get(type(layer))
    if found is None:
        known = ", ".join(sorted(kind.__name__ for kind in _RULES))
        raise UnsupportedLayer(
            f"backbone{path and '.' + path} is a {type(layer).__name__}, which has no Lipschitz "
            "rule, so nothing can be certified through it. Use a supported layer "
            f"({known}), or register a rule of your own: @relaxcert.lipschitz.rule("
            f"{type(layer).__name__}) on a subclass of relaxcert.lipschitz.Rule."
        )
    return found


def has_rule(layer: nn.Module) -> bool:
    """Whether exactly this kind of layer has a rule."""
    return type(layer) in _RULES


def refuse_if_patched(layer: nn.Module, path: str) -> None:
    """Raise UnsupportedLayer if hooks or an own ``forward`` change what the layer computes."""
    # A layer with a rule of the user's own may be made of others.
    parts = tuple(layer.modules()) if type(layer) in _RULES else (layer,)
    names = ("_forward_hooks", "_forward_pre_hooks")
    hooks = any(getattr(part, name, None) for part in parts for name in names)
    # Hooks on all modules at once (torch.nn.modules.module.register_module_forward_hook).
    hooks = hooks or any(getattr(torch.nn.modules.module, f"_global{name}", None) for name in names)
    if hooks or any("forward" in vars(part) for part in parts):
        what = "forward hooks" if hooks else "a forward method of its own"
        raise UnsupportedLayer(
            f"backbone{path and '.' + path} ({type(layer).__name__}) carries {what}, which may "
            "change what it computes (torch's old-style weight_norm and spectral_norm do); remove "
            "them (for those two: torch.nn.utils.remove_weight_norm / remove_spectral_norm)."
        )


def supported() -> tuple[type[nn.Module], ...]:
    """The kinds of layer that have a rule."""
    return tuple(_RULES)
