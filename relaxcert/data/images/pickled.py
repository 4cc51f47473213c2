"""Plain values out of a pickle file, without unpickling: nothing in the file can call anything.

The opcodes are listed by the standard library's ``pickletools``, which executes none, and those
that build numbers, texts, lists, tables and numpy arrays of bytes are interpreted here. The names
that numpy's arrays need are inert tokens; every other name, and every other opcode, is refused.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relaxcert.errors import DataError

_MARK = object()
_RECONSTRUCT = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}
_ARRAY = {("numpy", "ndarray")}
_TYPE = {("numpy", "dtype")}


@dataclass
class _Token:
    """A name in the file; it stands for itself and is never looked up."""

    module: str
    name: str

    def among(self, names: set[tuple[str, str]]) -> bool:
        return (self.module, self.name) in names


@dataclass
class _Empty:
    """What numpy's reconstruction or dtype token was applied to; filled by its state."""

    kind: str
    value: Any = None


class _Refused(Exception):
    """Something that no file of plain values holds."""


def read_plain_pickle(path: Path) -> object:
    """The value in a pickle file (protocols 0 to 5) of plain values and arrays of bytes.

    Raises:
        DataError: cut off, not such a file, or anything in it that is more than data.
    """
    try:
        return _Machine().run(path.read_bytes())
    except _Refused as error:
        raise DataError(
            f"{path} holds more than data ({error}), so it is not read: a pickle can run any "
            "program; use the binary version of the set."
        ) from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise DataError(
            f"{path} is not a complete pickle of plain values ({error}): it is cut off or damaged; "
            "copy it again, or use the binary version of the set."
        ) from error


class _Machine:
    """The stack and the memory of the format, for the opcodes of data alone."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}
        constants = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
        self.actions: dict[str, Callable[[Any], None]] = {
            **dict.fromkeys(("PROTO", "FRAME", "STOP"), self._nothing),
            **dict.fromkeys(_VALUES, self._push),
            **{name: self._constant(value) for name, value in constants.items()},
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), self._put),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), self._get),
            "MARK": lambda _: self.stack.append(_MARK),
            "EMPTY_DICT": lambda _: self.stack.append({}),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "EMPTY_TUPLE": lambda _: self.stack.append(()),
            "DICT": lambda _: self.stack.append(self._pairs(self._since_mark())),
            "LIST": lambda _: self.stack.append(self._since_mark()),
            "TUPLE": lambda _: self.stack.append(tuple(self._since_mark())),
            "TUPLE1": lambda _: self.stack.append(self._last(1)),
            "TUPLE2": lambda _: self.stack.append(self._last(2)),
            "TUPLE3": lambda _: self.stack.append(self._last(3)),
            "APPEND": lambda _: self._extend([self.stack.pop()]),
            "APPENDS": lambda _: self._extend(self._since_mark()),
            "SETITEM": lambda _: self._update(list(self._last(2))),
            "SETITEMS": lambda _: self._update(self._since_mark()),
            "GLOBAL": lambda name: self._name(*str(name).split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._name(*self._last(2)),
            "REDUCE": lambda _: self._apply(),
            "BUILD": lambda _: self._fill(),
        }

    def run(self, content: bytes) -> object:
        for opcode, argument, _ in pickletools.genops(content):
            action = self.actions.get(opcode.name)
            if action is None:
                raise _Refused(f"opcode {opcode.name}")
            action(argument)
        (result,) = self.stack
        return result.value if isinstance(result, _Empty) else result

    def _nothing(self, argument: Any) -> None:
        del argument

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _constant(self, value: Any) -> Callable[[Any], None]:
        return lambda _: self.stack.append(value)

    def _put(self, place: int | None) -> None:
        self.memory[len(self.memory) if place is None else place] = self.stack[-1]

    def _get(self, place: int) -> None:
        self.stack.append(self.memory[place])

    def _since_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return [item.value if isinstance(item, _Empty) else item for item in reversed(items)]

    def _last(self, count: int) -> tuple[Any, ...]:
        items = [self.stack.pop() for _ in range(count)]
        return tuple(i.value if isinstance(i, _Empty) else i for i in reversed(items))

    def _pairs(self, items: list[Any]) -> dict[Any, Any]:
        return dict(zip(items[::2], items[1::2], strict=True))

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError("an item is appended to what is no list")
        self.stack[-1].extend(items)

    def _update(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise TypeError("an entry is set in what is no table")
        self.stack[-1].update(self._pairs(items))

    def _name(self, module: str, name: str) -> None:
        token = _Token(module, name)
        if not token.among(_RECONSTRUCT | _ARRAY | _TYPE):
            raise _Refused(f"the name {module}.{name}")
        self.stack.append(token)

    def _apply(self) -> None:
        token, arguments = self._last(2)
        if isinstance(token, _Token) and token.among(_RECONSTRUCT):
            self.stack.append(_Empty("array"))
        elif isinstance(token, _Token) and token.among(_TYPE) and arguments[:1] == ("u1",):
            self.stack.append(_Empty("bytes type", "u1"))
        else:
            raise _Refused(f"a call of {token} with {str(arguments)[:60]}")

    def _fill(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _Empty) and target.kind == "bytes type":
            return
        if not isinstance(target, _Empty) or target.value is not None:
            raise _Refused("a state for what is no array")
        _, shape, kind, fortran, content = state
        content = content.encode("latin-1") if isinstance(content, str) else content
        if kind != "u1" or fortran or math.prod(shape) != len(content):
            raise ValueError(f"an array of shape {shape} with {len(content)} bytes")
        target.value = np.frombuffer(content, dtype=np.uint8).reshape(shape)


_VALUES = (
    "BININT",
    "BININT1",
    "BININT2",
    "INT",
    "LONG",
    "LONG1",
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "BINFLOAT",
)
