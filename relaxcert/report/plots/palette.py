"""Colours for any colour vision, on white and on dark ground."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

# M. Okabe & K. Ito, "Color universal design" (2008), without the yellow, which fades on white. The
# order alternates dark and light, so that neighbours differ in grey as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", "-.", ":")
# What was certified and counts, what was certified and does not, what was rejected.
RIGHT, WRONG, REJECTED = "#0072B2", "#E69F00", "#9A9A9A"
_FAINTEST, _STRONGEST = 0.10, 0.78


def look(index: int) -> tuple[str, str]:
    """Colour and line style of the line ``index``: no two of the first 28 are alike."""
    return COLOURS[index % len(COLOURS)], STYLES[index % len(STYLES)]


def shades() -> Colormap:
    """One hue from faint to strong, by opacity: it grows away from the ground, light or dark.

    The strongest shade leaves black writing readable on white ground, and white on black.
    """
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    hue = to_rgb(COLOURS[0])
    ends = [(*hue, _FAINTEST), (*hue, _STRONGEST)]
    nothing = (0.0, 0.0, 0.0, 0.0)
    colours = LinearSegmentedColormap.from_list("shades", ends)
    return colours.with_extremes(bad=nothing, under=nothing)
