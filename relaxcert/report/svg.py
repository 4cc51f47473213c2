"""Pictures that live in a page: SVG of matplotlib, made to follow the page's theme.

matplotlib's SVG rather than a charting library in JavaScript: it prints, it opens from disk with
no run time to load, writing stays writing (it can be searched, selected and read aloud), and what
is dense is one embedded image. What must follow the theme is drawn in two reserved colours that
become ``currentColor`` and the colour of the page's ground.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relaxcert.report.plots.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _GROUND = "#010203", "#fefdfc"


@dataclass(frozen=True)
class Picture:
    """An SVG element as text, its natural width in pixels, and what it shows in words.

    ``svg`` is made by matplotlib, which escapes whatever is written in it.
    """

    svg: str
    width: int
    alt: str


def picture(
    draw: Callable[[Axes], object], *, key: str, alt: str, width: float = 6.0, height: float = 3.6
) -> Picture:
    """Let ``draw`` draw on new axes of that size in inches.

    Args:
        draw: takes the axes.
        key: names the picture within the page; its internal references carry it.
        alt: what the picture shows.
        width: in inches; a page may show it smaller.
        height: in inches.

    Raises:
        MissingPlots: matplotlib is not installed.
    """
    new_figure(columns=1, width=1, height=1)  # says what to install if matplotlib is missing
    from matplotlib import rc_context

    themed: dict[Any, Any] = {
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK
        ),
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "legend.facecolor": _GROUND,
        "font.size": 9,
        "svg.fonttype": "none",
        "text.parse_math": False,  # class names may hold dollars
        "svg.hashsalt": key,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with rc_context(themed), warnings.catch_warnings():
        # The reader's browser has fonts for what matplotlib's own font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure, (ax,) = new_figure(columns=1, width=width, height=height)
        draw(ax)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, dpi=144)
    return Picture(_themed(file.getvalue()), round(width * 96), alt)


def _rounded(found: re.Match[str]) -> str:
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", found[0])


def _themed(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    opening, _, rest = svg.partition(">")
    box = re.search(r'viewBox="[^"]*"', opening)
    opening = f'<svg {box[0] if box else ""} aria-hidden="true" focusable="false"'
    # Names of groups are the same in every picture; only what is referred to keeps its name.
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', rest))
    rest = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", rest)
    rest = re.sub(r"<!--.*?-->\s*", "", rest, flags=re.DOTALL)
    rest = re.sub(r"\n\s*", "\n", rest)
    rest = rest.replace("xlink:href", "href")
    # The page sets the family; matplotlib has it apart from the size or, before 3.9, with it.
    rest = re.sub(r'font-family: [^;"]*;? ?', "", rest)
    rest = re.sub(r'font: (?:[a-z]+ )*([\d.]+px) [^;"]*', r"font-size: \1", rest)
    # A hundredth of a point is finer than any screen; images and writing are left alone.
    rest = re.sub(r' (d|x|y|transform|width|height)="[^"]*"', _rounded, rest)
    for reserved in (_INK, "#000000"):
        rest = rest.replace(reserved, "currentColor")
    for reserved in (_GROUND, "#ffffff"):
        rest = rest.replace(reserved, "var(--ground)")
    # SVG paints in black where nothing is said.
    return f'{opening} fill="currentColor">{rest}'
