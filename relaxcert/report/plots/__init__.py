"""Plots as functions: each draws on the Axes that it is given, or on new ones, and returns them.

Needs matplotlib (extra ``[report]``). Colours are told apart with any colour vision
(:mod:`relaxcert.report.plots.palette`); nothing is said by colour alone.
"""

from relaxcert.report.plots.curves import exactness_scatter, vra_curve
from relaxcert.report.plots.figure import MissingPlots, new_figure, save
from relaxcert.report.plots.graph import grouping_graph
from relaxcert.report.plots.grouping import (
    class_order,
    grouped_together,
    grouping_map,
    grouping_size,
)
from relaxcert.report.plots.histograms import margins, set_sizes
from relaxcert.report.plots.palette import COLOURS
from relaxcert.report.plots.regions import decision_regions, draw_ball

__all__ = [
    "COLOURS",
    "MissingPlots",
    "class_order",
    "decision_regions",
    "draw_ball",
    "exactness_scatter",
    "grouped_together",
    "grouping_graph",
    "grouping_map",
    "grouping_size",
    "margins",
    "new_figure",
    "save",
    "set_sizes",
    "vra_curve",
]
