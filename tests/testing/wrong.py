"""Loading the examples, and asking which checks of a suite fail."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from hypothesis import Phase, settings

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICK = settings(
    max_examples=100, derandomize=True, database=None, deadline=None, phases=[Phase.generate]
)


def example(name: str):
    """The module of examples/NAME.py."""
    # Under a name of its own, so that its classes can be pickled.
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def checks_of(suite: type) -> list[str]:
    return sorted(name for name in dir(suite) if name.startswith("test_"))


def failed(suite: type, check: str) -> str:
    """What a check says, run on a profile that is the same each time; empty if it passes."""
    kept = settings.default
    settings.register_profile("quick for wrong versions", QUICK)
    settings.load_profile("quick for wrong versions")
    try:
        getattr(suite(), check)()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        settings.register_profile("as it was", kept)
        settings.load_profile("as it was")
    return ""
