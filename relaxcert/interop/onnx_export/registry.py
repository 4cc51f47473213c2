"""Which function writes which kind of layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.interop.onnx_export.writer import Writer


@dataclass(frozen=True)
class Site:
    """Where a layer is written.

    Attributes:
        write: the graph.
        name: of the value that the layer takes.
        before, after: shapes of one point before and after it.
        dtype: of the network.
        guarded: whether the rounding of the layer must be known: then only matrix products run in
            the network's own precision. Everything else that rounds runs in float64 and is rounded
            once, which also keeps engines from folding it into the weights beside it.
    """

    write: Writer
    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    dtype: torch.dtype
    guarded: bool

    @property
    def working(self) -> torch.dtype:
        """The type in which rounding operations run."""
        return torch.float64 if self.guarded else self.dtype

    def wide(self) -> str:
        """The input in the working type."""
        return self.name if self.working == self.dtype else self.write.cast(self.name, self.working)

    def narrow(self, name: str) -> str:
        """A result of rounding operations in the network's own type."""
        return name if self.working == self.dtype else self.write.cast(name, self.dtype)


Emitter: TypeAlias = Callable[[Any, Site], str]

_EMITTERS: dict[type[nn.Module], Emitter] = {}


def emitter(*kinds: type[nn.Module]) -> Callable[[Emitter], Emitter]:
    """Register a function that writes one or more kinds of layer: (layer, site) -> name.

    In a guarded network the error of what it writes must not exceed the ``Rounding`` of the layer's
    rule in the network's precision plus one rounding of the result.
    """

    def register(function: Emitter) -> Emitter:
        for kind in kinds:
            _EMITTERS[kind] = function
        return function

    return register


def emit(layer: nn.Module, path: str, site: Site) -> str:
    """Write a layer; the name of its result.

    Raises:
        UnsupportedLayer: there is no way to write it, or none with a known rounding.
    """
    function = _EMITTERS.get(type(layer))
    if function is None:
        known = ", ".join(sorted(kind.__name__ for kind in _EMITTERS))
        raise UnsupportedLayer(
            f"backbone{path and '.' + path} is a {type(layer).__name__}, which cannot be written "
            f"to an ONNX file, only {known}."
        )
    return function(layer, site)
