"""A backbone as a chain of layers, each with its rule and its path in the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz.registry import Rule, refuse_if_patched, rule_for


@dataclass(frozen=True, slots=True)
class Link:
    """One layer of the chain."""

    path: str
    layer: nn.Module
    rule: Rule[Any]

    @property
    def kind(self) -> str:
        """The name of the layer's type."""
        return type(self.layer).__name__


@dataclass(frozen=True, slots=True)
class Chain:
    """The layers in the order in which they are applied.

    ``last`` is the final Linear layer if there is one with nothing but identities after it: its
    rows give the constants of the logit differences. The layers before it are ``body``.
    """

    body: tuple[Link, ...]
    last: Link | None

    @property
    def links(self) -> tuple[Link, ...]:
        """All layers, in order."""
        return self.body if self.last is None else (*self.body, self.last)

    @property
    def last_weight(self) -> Tensor:
        """The weight of the last Linear layer, (classes, features)."""
        if self.last is None or not isinstance(self.last.layer, nn.Linear):
            raise UnsupportedLayer("the backbone does not end in an nn.Linear layer.")
        return self.last.layer.weight

    @property
    def signature(self) -> tuple[str, ...]:
        """The structure as text: changes when a layer is replaced or reconfigured."""
        return tuple(
            f"{link.path}:{link.layer!r}:{[_settings(part) for part in link.layer.modules()]}"
            for link in self.links
        )


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_PLAIN = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, type(None))


def _settings(layer: nn.Module) -> list[tuple[str, str]]:
    """Plain attributes, private ones too, such as slopes and sizes; a repr may leave them out.

    Tensors that are neither parameters nor buffers count as well.
    """
    return sorted(
        (name, repr((value.dtype, value.tolist()) if isinstance(value, Tensor) else value))
        for name, value in vars(layer).items()
        if isinstance(value, (*_PLAIN, Tensor)) and name not in _OF_EVERY_MODULE
    )


def chain_of(backbone: nn.Module) -> Chain:
    """Take a backbone apart: a layer with a rule, or (nested) nn.Sequential of such layers.

    Raises:
        UnsupportedLayer: a layer without a rule, with hooks, or an empty backbone; names its path.
    """
    links = _links(backbone, "")
    if not links:
        raise UnsupportedLayer("the backbone has no layers: give it at least one Linear layer.")
    stop = len(links)
    while stop > 1 and isinstance(links[stop - 1].layer, nn.Identity | nn.Dropout):
        stop -= 1
    if type(links[stop - 1].layer) is nn.Linear:
        return Chain(tuple(links[: stop - 1]), links[stop - 1])
    return Chain(tuple(links), None)


def _links(module: nn.Module, path: str) -> list[Link]:
    if type(module) is not nn.Sequential:
        return [Link(path, module, rule_for(module, path))]
    refuse_if_patched(module, path)
    links: list[Link] = []
    # Not named_children(), which leaves out the second use of a shared layer.
    children: dict[str, nn.Module] = vars(module)["_modules"]
    for name, child in children.items():
        links += _links(child, f"{path}.{name}" if path else name)
    return links
