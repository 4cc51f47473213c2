"""One kind of layer, one rule: the registry through which bounds are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

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
    ``absolute`` is a further error of every single number, whatever the precision. Intermediate
    results are at most ``intermediate`` times the terms in brackets (asked before an overflow).
    """

    operations: int = 0
    input_gain: float = 0.0
    output_gain: float = 0.0
    offset: float = 0.0
    offset_is_total: bool = False
    absolute: float = 0.0
    intermediate: float = 1.0


class Rule(ABC, Generic[Layer]):
    """What relaxcert must know of a kind of layer; see :func:`rule`.

    Methods get the layer in float64 on the CPU for ``verified`` and ``rounding``, and the live
    layer for ``estimate``. A rule whose bounds depend on the shape of the layer's input (as those
    of convolutions do) sets ``needs_shape`` and keeps the shape in :meth:`at`; all others hold for
    every shape.
    """

    needs_shape: ClassVar[bool] = False
    only_in_eval_mode: ClassVar[bool] = False  # in train mode the layer computes something else

    def at(self, shape: tuple[int, ...]) -> Rule[Layer]:
        """The rule for inputs of this shape (one point, without the batch); here: the same."""
        del shape
        return self

    def tightened(self) -> Rule[Layer]:
        """The rule that takes more time where that gives a smaller bound; here: the same."""
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
_FORWARDS: dict[type[nn.Module], object] = {}  # what the rules speak of

_OWN_SCALE = (
    "divides its input by the spread of that same input: near constant inputs its slope is that of "
    "1 / sqrt(eps), so no useful Lipschitz bound exists. Use BatchNorm (whose statistics are fixed "
    "in eval mode), or centre and scale with InputNormalisation."
)
_PRODUCTS = (
    "multiplies functions of its input, so its slope grows with the input and no bound holds for "
    "all of them."
)
_REASONS: dict[type[nn.Module], str] = {
    **dict.fromkeys(
        (
            nn.GroupNorm,
            nn.LayerNorm,
            nn.InstanceNorm1d,
            nn.InstanceNorm2d,
            nn.InstanceNorm3d,
            nn.LocalResponseNorm,
            nn.RMSNorm,
        ),
        _OWN_SCALE,
    ),
    **dict.fromkeys((nn.Bilinear, nn.MultiheadAttention, nn.GLU), _PRODUCTS),
}


def rule(*kinds: type[nn.Module]) -> Callable[[type[RuleType]], type[RuleType]]:
    """Register a rule for one or more kinds of layer: ``@lipschitz.rule(nn.Conv2d)``.

    A rule applies to exactly these types, never to subclasses: a subclass may compute something
    else in its ``forward``.
    """

    def register(rule_type: type[RuleType]) -> type[RuleType]:
        instance = rule_type()
        for kind in kinds:
            _RULES[kind] = instance
            _FORWARDS[kind] = kind.forward
        return rule_type

    return register


def rule_for(layer: nn.Module, path: str) -> Rule[Any]:
    """Return the rule of a layer.

    Raises:
        UnsupportedLayer: there is none, or the layer was changed so that its type says nothing
            (hooks, a ``forward`` of its own); names the path and the remedy.
    """
    refuse_if_patched(layer, path)
    found = _RULES.get(kind_of(layer))
    if found is None and type(layer) in _REASONS:
        place = f"backbone{path and '.' + path} is a {type(layer).__name__}"
        raise UnsupportedLayer(f"{place}, which {_REASONS[type(layer)]}")
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
    return kind_of(layer) in _RULES


def meaning_of(kind: type[nn.Module]) -> tuple[int, int]:
    """Identities of what its layers compute and of the rule; both can be replaced in a class."""
    return id(kind.forward), id(_RULES.get(kind))


def kind_of(layer: nn.Module) -> type[nn.Module]:
    """The type of a layer; of a parametrised one, the type that it had before."""
    if parametrize.is_parametrized(layer):
        return parametrize.type_before_parametrizations(layer)
    return type(layer)


def refuse_if_patched(layer: nn.Module, path: str) -> None:
    """Raise UnsupportedLayer if hooks or an own ``forward`` change what the layer computes."""
    # A layer with a rule of the user's own may be made of others.
    parts = tuple(layer.modules()) if kind_of(layer) in _RULES else (layer,)
    names = ("_forward_hooks", "_forward_pre_hooks")
    hooks = any(getattr(part, name, None) for part in parts for name in names)
    # Hooks on all modules at once (torch.nn.modules.module.register_module_forward_hook).
    hooks = hooks or any(getattr(torch.nn.modules.module, f"_global{name}", None) for name in names)
    if hooks or any("forward" in vars(part) or _is_patched(type(part)) for part in parts):
        what = "forward hooks" if hooks else "a forward method of its own"
        raise UnsupportedLayer(
            f"backbone{path and '.' + path} ({type(layer).__name__}) carries {what}, which may "
            "change what it computes (torch's old-style weight_norm and spectral_norm do); remove "
            "them (for those two: torch.nn.utils.remove_weight_norm / remove_spectral_norm)."
        )


def _is_patched(kind: type[nn.Module]) -> bool:
    """Whether the class itself got another ``forward`` after its rule was registered."""
    return kind in _FORWARDS and kind.forward is not _FORWARDS[kind]


def supported() -> tuple[type[nn.Module], ...]:
    """The kinds of layer that have a rule."""
    return tuple(_RULES)
