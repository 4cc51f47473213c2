"""A griffe extension: Sphinx's roles in docstrings (:func:`name`) as plain code."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

_ROLE = re.compile(r":(?:func|class|meth|mod|attr):`~?([^`]+)`")


class Roles(Extension):
    """Rewrites the docstring of every object."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Called for each object that griffe has loaded."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
