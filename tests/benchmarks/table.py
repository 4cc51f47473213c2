"""Figures of a benchmark run as markdown: ``python -m tests.benchmarks.table benchmark.json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def markdown(results: Mapping[str, Any]) -> str:
    """One table a group: ratio (median, quartiles), CPU milliseconds, and what else was kept."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for benchmark in results["benchmarks"]:
        groups.setdefault(benchmark["group"] or "other", []).append(benchmark["extra_info"])
    cpu = results.get("machine_info", {}).get("cpu", {}).get("brand_raw", "unknown processor")
    parts = [f"One thread of {cpu}; CPU time; ratios within a round, median (quartiles).\n"]
    for group, rows in groups.items():
        parts.append(f"\n### {group}\n")
        parts.extend(_rows(rows))
    return "\n".join(parts) + "\n"


def _rows(figures: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = ["| work | against | ratio | CPU ms | more |", "|---|---|---|---|---|"]
    for row in figures:
        if "ratio" not in row:
            continue
        known = ("work", "against", "ratio", "low", "high", "ms")
        more = ", ".join(f"{key} {value}" for key, value in row.items() if key not in known)
        spread = f"{row['ratio']:.3f} ({row['low']:.3f}-{row['high']:.3f})"
        lines.append(f"| {row['work']} | {row['against']} | {spread} | {row['ms']:.2f} | {more} |")
    return lines


if __name__ == "__main__":
    sys.stdout.write(markdown(json.loads(Path(sys.argv[1]).read_text("utf-8"))))
