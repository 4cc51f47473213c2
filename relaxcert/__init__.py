"""relaxcert: state what a classifier must guarantee, train it in, and prove it.

A property is a frozen value; everything else (head, proof, file, test, attack) is compiled from it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relaxcert.heads import Certificates, GloRoNet
    from relaxcert.heads.model_file import load_model, save_model
    from relaxcert.smt import crosscheck
    from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, Targeted, TopK
    from relaxcert.spec.catalogue import load_property
    from relaxcert.training import evaluate, fit

__version__ = "0.1.0"

__all__ = [
    "Affinity",
    "AffinitySets",
    "Certificates",
    "GloRoNet",
    "Local",
    "RelaxedTopK",
    "Targeted",
    "TopK",
    "crosscheck",
    "evaluate",
    "fit",
    "load_model",
    "load_property",
    "save_model",
]

# Loaded when first asked for: the property layer (relaxcert.spec) works without torch.
_HOME = {
    "Affinity": "relaxcert.spec",
    "AffinitySets": "relaxcert.spec",
    "Certificates": "relaxcert.heads",
    "GloRoNet": "relaxcert.heads",
    "Local": "relaxcert.spec",
    "RelaxedTopK": "relaxcert.spec",
    "Targeted": "relaxcert.spec",
    "TopK": "relaxcert.spec",
    "crosscheck": "relaxcert.smt",
    "evaluate": "relaxcert.training",
    "fit": "relaxcert.training",
    "load_model": "relaxcert.heads.model_file",
    "load_property": "relaxcert.spec.catalogue",
    "save_model": "relaxcert.heads.model_file",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
