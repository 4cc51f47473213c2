"""The schedules of a training run as a picture: rate and TRADES weight against the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from relaxcert.report.plots import COLOURS, new_figure, save


def schedule_plot(curves: Mapping[str, Sequence[float]], steps: int, path: str | Path) -> Path:
    """Draw values at equal distances over ``steps`` steps, one axes a schedule; logarithmic rates.

    Raises:
        MissingPlots: matplotlib is not installed.
    """
    figure, axes = new_figure(columns=len(curves), width=4.8 * len(curves), height=3.2)
    for index, (ax, (name, values)) in enumerate(zip(axes, curves.items(), strict=True)):
        places = [steps * place / (len(values) - 1) for place in range(len(values))]
        ax.plot(places, values, color=COLOURS[index], linewidth=2)
        # A rate that falls by more than a factor of 20 would look like nothing.
        if min(values) > 0 and max(values) > 20 * min(values):
            ax.set_yscale("log")
        else:
            ax.set_ylim(bottom=0)
        ax.set(xlabel="step", title=name)
        ax.set_xlim(0, steps)
        ax.locator_params(axis="x", nbins=5)
        ax.grid(visible=True, color="0.9")
    return save(figure, Path(path))
