"""Figures without a display, and files of them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from relaxcert.errors import MissingExtra
from relaxcert.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class MissingPlots(MissingExtra):
    """matplotlib is not installed."""


class Verdicts(Protocol):
    """What plots read of certificates: :class:`Certificates`, or a run read from its files."""

    @property
    def certified(self) -> Tensor:
        """(batch,) bool."""
        ...

    @property
    def k(self) -> Tensor:
        """(batch,) loosest certified prefix length, 0 where there is none."""
        ...

    @property
    def strictest_k(self) -> Tensor:
        """(batch,) smallest certified prefix length, 0 where there is none."""
        ...

    @property
    def strictest_sets(self) -> Tensor:
        """(batch, classes) bool."""
        ...

    @property
    def margin(self) -> Tensor:
        """(batch,) in logit units."""
        ...


def new_figure(*, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with a row of axes, drawn without a display; sizes in inches.

    Raises:
        MissingPlots: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPlots(
            "plots need matplotlib: pip install 'relaxcert[report]' (results are in JSON anyway)."
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, columns, squeeze=False)
    return figure, list(axes[0])


def axes_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """``ax``, or the only Axes of a new figure of that size in inches."""
    return new_figure(columns=1, width=width, height=height)[1][0] if ax is None else ax


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG or SVG, by the suffix, atomically."""
    return write_atomically(path, lambda name: figure.savefig(name, dpi=144))


def ink() -> Any:
    """The colour of writing, which a dark style changes."""
    from matplotlib import rcParams

    return rcParams["text.color"]


def light_grid(ax: Axes, axis: str = "both") -> None:
    """A grid behind the data that does not compete with them."""
    ax.grid(visible=True, color=ink(), alpha=0.12, axis=axis)  # pyright: ignore[reportArgumentType]
    ax.set_axisbelow(True)


def short_names(names: Sequence[str], *, width: int = 14, lines: int = 3) -> list[str]:
    """Class names wrapped at ``width`` letters, at most ``lines`` lines each; no mathematics."""
    from matplotlib import rcParams

    dollar = r"\$" if rcParams["text.parse_math"] else "$"
    wrapped = [textwrap.wrap(name, width, max_lines=lines, placeholder="…") for name in names]
    return ["\n".join(rows).replace("$", dollar) for rows in wrapped]
