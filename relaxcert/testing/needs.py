"""The extra that this part of relaxcert needs, asked for with one clear error."""

from __future__ import annotations

from importlib.util import find_spec

from relaxcert.errors import MissingExtra


def need(module: str) -> None:
    """Raise MissingExtra unless ``module`` (hypothesis or pytest) can be imported."""
    if find_spec(module) is None:
        raise MissingExtra(
            f"relaxcert.testing needs {module}, which is not installed: "
            "pip install 'relaxcert[testing]'."
        )
