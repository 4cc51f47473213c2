"""Templates: jinja2 with everything escaped that is not marked as safe (extra ``[report]``)."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from importlib import resources
from typing import Any

from relaxcert.errors import MissingExtra

_MARK = re.compile(r"([\^_])\{([^{}]*)\}")


class MissingReport(MissingExtra):
    """jinja2 is not installed."""


def render(name: str, **content: object) -> str:
    """Fill a template that ships with the package.

    Raises:
        MissingReport: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingReport("reports need jinja2: pip install 'relaxcert[report]'.") from error
    environment = Environment(
        loader=PackageLoader("relaxcert.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(share=share, count=count, number=number, formula=formula)
    script = _own_file("report.js")
    return environment.get_template(name).render(
        style=_own_file("report.css"),
        script=script,
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **content,
    )


def _own_file(name: str) -> str:
    return resources.files("relaxcert.report").joinpath("templates", name).read_text("utf-8")


def share(value: float | None) -> str:
    """A share of 0..1 as per cent; a dash where it is unknown."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"  # noqa: RUF001


def count(value: float) -> str:
    """A count with thousands apart."""
    return f"{int(value):,}"


def number(value: Any) -> str:
    """A number with four digits that count."""
    if value is None or math.isnan(value):
        return "–"  # noqa: RUF001
    return "∞" if math.isinf(value) and value > 0 else f"{value:.4g}"


def formula(text: str) -> str:
    """A formula as HTML: ``^{..}`` and ``_{..}`` become superscript and subscript."""
    tags = {"^": "sup", "_": "sub"}
    escaped = html.escape(text)
    return _MARK.sub(lambda m: f"<{tags[m[1]]}>{m[2]}</{tags[m[1]]}>", escaped)
