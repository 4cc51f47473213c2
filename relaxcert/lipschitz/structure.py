"""What a module is made of: to notice that it was replaced, patched or reconfigured."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Number
from typing import Any, cast

import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz.registry import has_rule, meaning_of, refuse_if_patched

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_PLAIN = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, type(None))
_SLOTS = ("_parameters", "_buffers")

Structure = tuple[tuple[str, int, type[nn.Module], object], ...]


def settings_of(layer: nn.Module) -> list[list[tuple[str, str]]]:
    """The settings of a layer and of its parts; a repr may leave them out."""
    return [_settings(part) for part in layer.modules()]


def _settings(part: nn.Module) -> list[tuple[str, str]]:
    """Plain attributes, private ones too, such as slopes and sizes; and what its tensors are for.

    Tensors that are neither parameters nor buffers count as well, and the numbers of numpy.
    """
    found = [
        (name, _text_of(value))
        for name, value in vars(part).items()
        if name not in _OF_EVERY_MODULE and _is_told(value)
    ]
    return [*sorted(found), ("tensors", repr(_slots(part)))]


def _slots(module: nn.Module) -> tuple[tuple[str, bool], ...]:
    """The names of its parameters and buffers in their order, and which of them are None.

    The numbers alone do not say whether they are a weight or a bias.
    """
    entries = vars(module)
    return tuple((name, value is None) for kind in _SLOTS for name, value in entries[kind].items())


def _is_told(value: object) -> bool:
    """Whether :func:`_text_of` says all of it."""
    return isinstance(value, (*_PLAIN, Tensor, Number)) or hasattr(value, "tolist")


def _text_of(value: object) -> str:
    """Every digit, also of tensors inside others, whose own repr shows four."""
    if isinstance(value, dict):
        entries = cast("dict[object, object]", value).items()
        return f"{type(value).__name__}{[(_text_of(k), _text_of(v)) for k, v in entries]}"
    if isinstance(value, list | tuple):
        parts = cast("list[object] | tuple[object, ...]", value)
        return f"{type(value).__name__}{[_text_of(part) for part in parts]}"
    if isinstance(value, set | frozenset):
        members = cast("set[object] | frozenset[object]", value)
        return f"{type(value).__name__}{sorted(_text_of(part) for part in members)}"
    array: Any = value
    return repr((array.dtype, array.tolist()) if hasattr(array, "tolist") else value)


def _untold(module: nn.Module) -> tuple[tuple[str, int], ...]:
    """The identities of all other attributes of a layer: functions, objects of any kind."""
    if not has_rule(module):
        return ()
    return tuple(
        (name, id(value))
        for name, value in vars(module).items()
        if name not in _OF_EVERY_MODULE and not _is_told(value)
    )


def structure_of(backbone: nn.Module) -> Structure:
    """One entry a module: path, identity, type, settings (its rule and ``forward`` among them).

    Raises:
        UnsupportedLayer: a module with hooks or a patched ``forward``, or one that holds itself.
    """
    entries: list[tuple[str, int, type[nn.Module], object]] = []
    for path, module in walk(backbone):
        refuse_if_patched(module, path)
        told = (*_settings(module), *_untold(module), meaning_of(type(module)))
        entries.append((path, id(module), type(module), told))
    return tuple(entries)


_MUTABLE = (list, dict, set, bytearray, Tensor)
_MISSING = object()


@dataclass(frozen=True, slots=True)
class _Watched:
    """One module as it was found: its own dictionary, children and attributes."""

    module: nn.Module
    kind: type[nn.Module]
    children: tuple[tuple[str, nn.Module | None], ...]
    attributes: tuple[tuple[str, Any], ...]
    slots: tuple[tuple[str, bool], ...]
    meaning: tuple[int, int]
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
            and _slots(self.module) == self.slots
            and meaning_of(self.kind) == self.meaning
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
        slots=_slots(module),
        meaning=meaning_of(type(module)),
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
    return isinstance(value, _MUTABLE) or hasattr(value, "tolist")


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
