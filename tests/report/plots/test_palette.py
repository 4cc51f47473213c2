"""Colours stay apart under simulated colour blindness, and writing on them stays readable."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="plots are an extra")
from matplotlib.colors import to_rgb

from relaxcert.report.plots import palette

# G. Machado, M. Oliveira, L. Fernandes, "A Physiologically-based Model for Simulation of Color
# Vision Deficiency" (2009), severity 1.0; they act on linear RGB.
DEFICIENCIES = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = TO_XYZ.sum(1)
# CIE 1976 units: about 2.3 is just noticeable between large patches, thin lines need far more.
LEAST = 14.0


def linear(colour: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB, white D65."""
    share = TO_XYZ @ light / WHITE
    cube = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return np.array([116 * cube[1] - 16, 500 * (cube[0] - cube[1]), 200 * (cube[1] - cube[2])])


def nearest(colours, deficiency: str) -> float:
    """The smallest distance of two of the colours as such a reader sees them."""
    seen = [lab(np.clip(DEFICIENCIES[deficiency] @ linear(c), 0, 1)) for c in colours]
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_no_two_colours_look_alike(deficiency):
    assert nearest(palette.COLOURS, deficiency) > LEAST


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_right_wrong_and_rejected_look_different(deficiency):
    assert nearest((palette.RIGHT, palette.WRONG, palette.REJECTED), deficiency) > 2 * LEAST


@pytest.mark.parametrize("deficiency", ["protanopia", "deuteranopia"])
def test_red_and_green_of_a_usual_palette_would_fail(deficiency):
    """The check can fail: matplotlib's own first colours do not pass it."""
    usual = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")
    assert nearest(usual, deficiency) < LEAST


def luminance(colour: np.ndarray) -> float:
    return float(TO_XYZ[1] @ colour)


def contrast(one: float, other: float) -> float:
    """Of WCAG 2.1, from 1 to 21."""
    low, high = sorted((one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("ground", "ink"), [("#ffffff", "#1b1f24"), ("#14171c", "#e6e8eb")])
def test_counts_are_readable_on_every_shade(ground, ink):
    """4.5 is what WCAG asks of small writing."""
    for strength in np.linspace(0, 1, 11):
        *hue, opacity = palette.shades()(float(strength))
        mixed = np.array(hue) * opacity + np.array(to_rgb(ground)) * (1 - opacity)
        shade = luminance(linear(tuple(mixed)))
        assert contrast(shade, luminance(linear(ink))) > 4.5


def test_shades_are_ordered_by_lightness_and_nothing_is_no_shade():
    opacities = [palette.shades()(step / 10)[3] for step in range(11)]
    assert opacities == sorted(opacities)
    assert opacities[0] > 0.05
    assert palette.shades()(np.ma.masked)[3] == 0


def test_lines_differ_in_colour_or_style():
    looks = {palette.look(index) for index in range(28)}
    assert len(looks) == 28
