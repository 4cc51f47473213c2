"""What a module is made of: to notice that it was replaced, patched or reconfigured."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

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
        (name, repr((value.dtype, value.tolist()) if isinstance(value, Tensor) else value))
        for name, value in vars(layer).items()
        if isinstance(value, (*_PLAIN, Tensor)) and name not in _OF_EVERY_MODULE
    )


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
