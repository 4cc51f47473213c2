"""Which function reads which operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from relaxcert.interop.onnx_import.builder import Builder
from relaxcert.interop.onnx_import.node import Node
from relaxcert.interop.onnx_import.values import Value

Handler: TypeAlias = Callable[[Node, Builder], "Value | Sequence[Value]"]

_HANDLERS: dict[str, Handler] = {}


def operator(*names: str) -> Callable[[Handler], Handler]:
    """Register a function that reads one or more operators of the standard domain.

    It must ask the node for every input and attribute that changes what is computed: whatever it
    did not ask for is refused afterwards, so that nothing is overlooked silently.
    """

    def register(handler: Handler) -> Handler:
        for name in names:
            _HANDLERS[name] = handler
        return handler

    return register


def handler_of(name: str) -> Handler | None:
    """The function for an operator, if it is supported."""
    return _HANDLERS.get(name)


def supported_operators() -> tuple[str, ...]:
    """Names of all operators that are read."""
    return tuple(sorted(_HANDLERS))
