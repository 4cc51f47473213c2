"""Property-based tests of networks and of what is built on relaxcert.

Everything here needs the extra ``testing`` (hypothesis and pytest) and is loaded when first asked
for; the pytest plugin of relaxcert, which every pytest run imports, therefore stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relaxcert.testing import strategies
    from relaxcert.testing.backends import BackendConformance
    from relaxcert.testing.networks import NetworkConformance
    from relaxcert.testing.properties import PropertyConformance
    from relaxcert.testing.rules import RuleConformance

__all__ = [
    "BackendConformance",
    "NetworkConformance",
    "PropertyConformance",
    "RuleConformance",
    "strategies",
]

_HOME = {
    "BackendConformance": "relaxcert.testing.backends",
    "NetworkConformance": "relaxcert.testing.networks",
    "PropertyConformance": "relaxcert.testing.properties",
    "RuleConformance": "relaxcert.testing.rules",
}


def __getattr__(name: str) -> Any:
    if name == "strategies":
        return import_module("relaxcert.testing.strategies")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from relaxcert.testing.needs import need

    need("hypothesis")
    need("pytest")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
