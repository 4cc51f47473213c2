"""Scaling of a benchmark run: ``python -m tests.benchmarks.plots benchmark.json folder``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt


def draw(results: Path, folder: Path) -> list[Path]:
    """One picture an axis: CPU milliseconds and ratio against its size."""
    benchmarks = json.loads(results.read_text("utf-8"))["benchmarks"]
    rows = [found["extra_info"] for found in benchmarks if "axis" in found["extra_info"]]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for axis in dict.fromkeys(row["axis"] for row in rows):
        chosen = sorted((row for row in rows if row["axis"] == axis), key=lambda row: row["size"])
        sizes = [row["size"] for row in chosen]
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
        left.loglog(sizes, [row["ms"] for row in chosen], marker="o")
        left.set(xlabel=axis, ylabel="CPU ms a batch", title="eval forward with bottom")
        spread = [
            [row["ratio"] - row["low"] for row in chosen],
            [row["high"] - row["ratio"] for row in chosen],
        ]
        right.errorbar(sizes, [row["ratio"] for row in chosen], yerr=spread, marker="o")
        right.set(xlabel=axis, ylabel="ratio to the plain forward", xscale="log")
        figure.tight_layout()
        written.append(folder / f"scaling-{axis}.svg")
        figure.savefig(written[-1])
        plt.close(figure)
    return written


if __name__ == "__main__":
    for path in draw(Path(sys.argv[1]), Path(sys.argv[2])):
        sys.stdout.write(f"{path}\n")
