"""What a module is made of: to notice that it was replaced, patched or reconfigured."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz.registry import has_rule, refuse_if_patched

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_PLAIN = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, type(None))

Structure = tuple[tuple[str, int, type[nn.Module], object], ...]


def settings_of(layer: nn.Module) -> list[list[tuple[str, str]]]:
    """The settings of a layer and of its parts; a repr may leave them out."""
    return [_settings(part) for part in layer.modules()]


def _settings(layer: nn.Module) -> list[tuple[str, str]]:
    """Plain attributes, private ones too, such as slopes and sizes.

    Tensors that are neither parameters nor buffers count as well.
    """
    return sorted(
        (name, _text_of(value))
        for name, value in vars(layer).items()
        if isinstance(value, (*_PLAIN, Tensor)) and name not in _OF_EVERY_MODULE
    )


def _text_of(value: object) -> str:
    return repr((value.dtype, value.tolist()) if isinstance(value, Tensor) else value)


def structure_of(backbone: nn.Module) -> Structure:
    """One entry a module: path, identity, type, settings.

    Raises:
        UnsupportedLayer: a module with hooks or a patched ``forward``, or one that holds itself.
    """
    entries: list[tuple[str, int, type[nn.Module], object]] = []
    for path, module in walk(backbone):
        refuse_if_patched(module, path)
        entries.append((path, id(module), type(module), tuple(_settings(module))))
    return tuple(entries)


_MUTABLE = (list, dict, set, Tensor)
_MISSING = object()


@dataclass(frozen=True, slots=True)
class _Watched:
    """One module as it was found: its own dictionary, children and attributes."""

    module: nn.Module
    kind: type[nn.Module]
    children: tuple[tuple[str, nn.Module | None], ...]
    attributes: tuple[tuple[str, Any], ...]
    count: int  # of entries in the module's dictionary

    def is_same(self) -> bool:
        """Whether every entry is the very object that it was."""
        entries = vars(self.module)
        return (
            type(self.module) is self.kind
            and len(entries) == self.count
            and not entries["_forward_hooks"]
            and not entries["_forward_pre_hooks"]
            and self._has_same_children(entries["_modules"])
            and all(entries.get(name, _MISSING) is value for name, value in self.attributes)
        )

    def _has_same_children(self, present: dict[str, nn.Module | None]) -> bool:
        return len(present) == len(self.children) and all(
            name == known and child is kept
            for (name, child), (known, kept) in zip(present.items(), self.children, strict=True)
        )


class Watch:
    """Tells in microseconds that a backbone is what it was, by the identity of all its parts.

    Where it says no, nothing is known, and :func:`structure_of` must be asked. Attributes that can
    change without becoming another object (lists, tensors) are compared by what they hold.
    """

    def __init__(self, backbone: nn.Module) -> None:
        modules = {id(module): module for _, module in walk(backbone)}
        self.parts = tuple(_watched(module) for module in modules.values())
        self.mutable = tuple(
            (module, settings)
            for module in modules.values()
            if (settings := _mutable_settings(module))
        )

    def is_same(self) -> bool:
        """Whether nothing was replaced, patched or reconfigured, as far as identity can tell."""
        every = torch.nn.modules.module
        return (
            not getattr(every, "_global_forward_hooks", None)
            and not getattr(every, "_global_forward_pre_hooks", None)
            and all(part.is_same() for part in self.parts)
            and all(_mutable_settings(module) == settings for module, settings in self.mutable)
        )


def _watched(module: nn.Module) -> _Watched:
    entries = vars(module)
    return _Watched(
        module=module,
        kind=type(module),
        children=tuple(entries["_modules"].items()),
        attributes=tuple((k, v) for k, v in entries.items() if k not in _OF_EVERY_MODULE),
        count=len(entries),
    )


def _mutable_settings(module: nn.Module) -> list[tuple[str, str]]:
    return [
        (name, _text_of(value))
        for name, value in vars(module).items()
        if name not in _OF_EVERY_MODULE and _is_mutable(value)
    ]


def _is_mutable(value: object) -> bool:
    if isinstance(value, tuple):
        return any(_is_mutable(part) for part in value)  # pyright: ignore[reportUnknownVariableType]
    return isinstance(value, _MUTABLE)


def walk(
    module: nn.Module, path: str = "", above: tuple[nn.Module, ...] = ()
) -> Iterator[tuple[str, nn.Module]]:
    """All modules with their paths, shared ones as often as they occur.

    Raises:
        UnsupportedLayer: a module that holds itself, where no walk would end.
    """
    if any(module is other for other in above):
        raise UnsupportedLayer(
            f"backbone.{path} ({type(module).__name__}) holds itself, directly or through others: "
            "a network must be a tree of modules (sharing is allowed, cycles are not)."
        )
    yield path, module
    children: dict[str, nn.Module | None] = vars(module)["_modules"]
    for name, child in children.items():
        if child is not None:
            yield from walk(child, f"{path}.{name}" if path else name, (*above, module))


def has_own_forward(backbone: nn.Module) -> bool:
    """Whether some ``forward`` method other than nn.Sequential's decides how layers are joined."""
    if has_rule(backbone):
        return False
    if type(backbone) is not nn.Sequential:
        return True
    return any(has_own_forward(child) for child in backbone.children())


@contextmanager
def in_eval_mode(backbone: nn.Module) -> Generator[None]:
    """Set the flag ``training`` of all modules to False for a while.

    The flags themselves and not ``eval()``, which a module may override (to merge weights, say).
    """
    flags = [(module, module.training) for module in backbone.modules()]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, training in flags:
            module.training = training
