"""Labelled samples of the table: train, validation and test, balanced, and a uniform one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from relaxcert.data.cache import cached
from relaxcert.data.hcas.model import CLASS_NAMES, COC
from relaxcert.data.hcas.table import load_table
from relaxcert.data.landsat import Split
from relaxcert.data.rejection import samples, splits_of
from relaxcert.training.progress import bar

SIZES = (50_000, 10_000, 20_000)


def hcas(
    *,
    speeds: int = 3,
    angles: int | None = None,
    previous: int = COC,
    sizes: tuple[int, int, int] = SIZES,
    seed: int = 0,
    folder: Path | None = None,
    progress: bool = True,
) -> dict[str, Split]:
    """Samples by part: ``train``, ``validation``, ``test``, balanced, and ``uniform``.

    Solved on first use (seconds) and cached. Inputs are normalised to [-1/2, 1/2], float32; see
    :class:`~relaxcert.data.hcas.table.Table`. Classes are in the order of the ACAS Xu networks.

    Args:
        speeds: 1 (three inputs) or 3 a side (five inputs, as the ACAS Xu networks have).
        angles: grid points of the angles; default 41 or 31.
        previous: the previous advisory, 0-4; default clear of conflict.
        sizes: points of train, validation and test; the uniform part is as large as test.
        seed: of the samples.
        folder: of the cache.
        progress: show a bar when attached to a terminal.

    Raises:
        InvalidInput: an argument out of range.
    """
    key = {
        "format": 1,
        "speeds": speeds,
        "angles": angles,
        "previous": previous,
        "sizes": list(sizes),
        "seed": seed,
    }

    def compute() -> dict[str, np.ndarray]:
        with bar(enabled=progress) as shown:
            task = shown.add_task("solving the encounter table", total=None)

            def advance(done: float, total: int) -> None:
                shown.update(task, completed=done, total=total)

            table = load_table(speeds=speeds, angles=angles, folder=folder, after_sweep=advance)
            half = np.full(len(table.axes), 0.5)
            shown.update(task, description="sampling", completed=0, total=sum(sizes) + sizes[2])
            return samples(
                partial(table.advisories, previous=previous),
                -half,
                half,
                len(CLASS_NAMES),
                sizes=sizes,
                seed=seed,
                after_batch=lambda found: shown.update(task, completed=found),
            )

    return splits_of(cached("hcas-sample", key, compute, folder=folder), CLASS_NAMES)
