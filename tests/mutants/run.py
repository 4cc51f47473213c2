"""Put every seeded fault into a copy of the package and see which test kills it.

    python -m tests.mutants.run [--only TEXT] [--limit SECONDS] [--jobs N] [--out TABLE.md]

Exit code 1 if one survives, 2 if one does not fit the code or a suite fails without any fault (it
would kill everything). The tests run from the copy, in a process of their own, derandomised, and
stop at the first failure.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.catalogue import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


class StaleMutant(Exception):
    """A mutant whose text is not in the code exactly once."""


class RedSuite(Exception):
    """A suite that fails on the code as it is, and so says nothing about faults."""


@dataclass(frozen=True)
class Outcome:
    """Which test killed a mutant (empty: none did), and after how many seconds."""

    mutant: Mutant
    killer: str
    seconds: float


def mutated(mutant: Mutant, package: Path) -> str:
    """The text of the mutant's file with the fault in it; ``package`` is the folder relaxcert."""
    text = (package / mutant.file).read_text("utf-8")
    count = text.count(mutant.old)
    if count != 1:
        raise StaleMutant(f"{mutant.name}: its text stands {count} times in {mutant.file}.")
    return text.replace(mutant.old, mutant.new)


def run(mutant: Mutant, limit: float) -> Outcome:
    """Copy, mutate, test; a run that exceeds ``limit`` seconds counts as killed by the limit."""
    changed = mutated(mutant, ROOT / "relaxcert")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = _copied(Path(folder))
        (copy / "relaxcert" / mutant.file).write_text(changed, "utf-8")
        for suite in mutant.suites:
            killer = _killer(suite, copy, limit)
            if killer:
                return Outcome(mutant, killer, time.monotonic() - started)
    return Outcome(mutant, "", time.monotonic() - started)


def check_suite(suite: str, limit: float) -> None:
    """Raise RedSuite unless the suite passes on a copy without a fault."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        failing = _killer(suite, _copied(Path(folder)), limit)
    if failing:
        raise RedSuite(f"{failing} fails without any fault: mend it first.")


def _copied(folder: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for name in ("relaxcert", "properties", "tests", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def _killer(suite: str, copy: Path, limit: float) -> str:
    """The first test of a suite that fails in the copy, or an empty text."""
    path, _, expression = suite.partition("|")
    chosen = ["-k", expression] if expression else []
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:randomly"]
    fixed = {"PYTHONPATH": str(copy), "CI": "1", "MUTANT": "1", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **fixed}
    try:
        done = subprocess.run(
            [*command, path, *chosen], cwd=copy, env=environment, timeout=limit,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{path} (not done after {limit:.0f} s)"
    if done.returncode == 0:
        return ""
    found = FAILED.search(done.stdout)
    # A module that cannot even be imported says nothing about the tests.
    if done.returncode != 1 or found is None or "::" not in found[1]:
        raise RuntimeError(f"{suite} did not run:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return found[1]


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table: the fault, where it is, the test that kills it."""
    lines = ["| fault | file | killed by | s |", "|---|---|---|---|"]
    for outcome in outcomes:
        killer = outcome.killer.removeprefix("tests/testing/") or "**nothing: it survives**"
        lines.append(
            f"| {outcome.mutant.name} | {outcome.mutant.file} | {killer} | {outcome.seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the catalogue, or a part of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="mutants whose name or file holds this text")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for each suite")
    parser.add_argument("--jobs", type=int, default=1, help="mutants that run at the same time")
    parser.add_argument("--out", type=Path, help="write the table to this file")
    given = parser.parse_args(arguments)
    chosen = [m for m in MUTANTS if given.only in m.name or given.only in m.file]
    outcomes: list[Outcome] = []
    try:
        for mutant in chosen:  # all of them, before the first takes its time
            mutated(mutant, ROOT / "relaxcert")
        suites = sorted({suite for mutant in chosen for suite in mutant.suites})
        with ThreadPoolExecutor(max(1, given.jobs)) as pool:  # each waits for a process
            list(pool.map(lambda suite: check_suite(suite, given.limit), suites))
            for outcome in pool.map(lambda mutant: run(mutant, given.limit), chosen):
                outcomes.append(outcome)
                found = outcome.killer or "SURVIVES"
                print(f"{outcome.seconds:6.1f} s  {outcome.mutant.name}: {found}", flush=True)
    except (StaleMutant, RedSuite) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.out is not None:
        given.out.write_text(table(outcomes), "utf-8")
    survivors = sum(not outcome.killer for outcome in outcomes)
    killed = len(outcomes) - survivors
    print(f"{len(outcomes)} mutants, {killed} killed, {survivors} survive")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
