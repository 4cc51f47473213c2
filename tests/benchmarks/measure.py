"""CPU time of several ways to do the same work, taken in turns; peak memory of a fresh process.

Ratios, not times, are what is worth reading: the ways alternate, so that whatever else the machine
does meets all of them, and each ratio is taken within one round before the median is formed. CPU
time of the process (``time.process_time``) does not count what other processes take.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Timing:
    """CPU milliseconds a call (median) and the ratio to the first way: median and quartiles."""

    ms: float
    ratio: float
    low: float
    high: float


def take_turns(
    ways: dict[str, Callable[[], object]], *, rounds: int = 15, least_ms: float = 5.0
) -> dict[str, Timing]:
    """Time the ways in turns; the first is what the others are compared with.

    A way is called several times a round if one call takes less than ``least_ms``.
    """
    repeats = {}
    for name, way in ways.items():
        way()
        started = time.process_time()
        way()
        repeats[name] = max(1, round(least_ms / max(1e3 * (time.process_time() - started), 1e-3)))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        names = list(ways)
        for name in names if number % 2 == 0 else reversed(names):
            started = time.process_time()
            for _ in range(repeats[name]):
                ways[name]()
            times[name].append(1e3 * (time.process_time() - started) / repeats[name])
    first = times[next(iter(ways))]
    timings = {}
    for name, found in times.items():
        ratios = [a / b for a, b in zip(found, first, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        timings[name] = Timing(statistics.median(found), middle, low, high)
    return timings


def peak_memory(script: str, *arguments: str) -> float:
    """Peak resident memory, MiB, of a fresh Python process that runs ``script``."""
    ending = "\nimport resource as _r\nprint(_r.getrusage(_r.RUSAGE_SELF).ru_maxrss / 1024)"
    done = subprocess.run(
        [sys.executable, "-c", script + ending, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return float(done.stdout.strip().splitlines()[-1])


def record(benchmark, work: str, against: str, timing: Timing, **more: object) -> None:
    """Keep a figure in the JSON of pytest-benchmark, from which the tables are written."""
    benchmark.extra_info.update(
        json.loads(json.dumps({"work": work, "against": against, **asdict(timing), **more}))
    )
