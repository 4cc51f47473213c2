"""The ACAS Xu examples, small and on the encounter table: what they write is what they promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "acasxu"


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """The table is solved once for both."""
    return tmp_path_factory.mktemp("cache")


def run(cache: Path, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        cwd=cache,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "RELAXCERT_CACHE": str(cache),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_table_2_in_small(cache, tmp_path):
    out = tmp_path / "table2.json"
    printed = run(cache, FOLDER / "table2.py", "--quick", "--out", out)
    results = json.loads(out.read_text())
    assert "constant answer, one set | 0.400" in printed
    assert results["class_counts"]["test"] == [100] * 5
    assert 0 < results["labels_within_a_pair"] < 1
    (one_run,) = results["runs"]
    assert one_run["test"]["points"] == 500
    assert sum(one_run["test"]["certified_sets"].values()) == 500
    fast = results["acasxu-fast"]
    assert fast["both_properties"]["adjacent_pairs"] > 0
    assert fast["both_properties"]["adjacent_pairs_but_not_targeted"] == 0
    assert fast["one_batch"]["points"] == 2048
    attacked = fast["attacks"]
    assert attacked["certified"] == fast["both_properties"]["adjacent_pairs"]
    assert attacked["certificates_broken_by_pgd"] == 0
    assert attacked["certificates_broken_by_random_search"] == 0
    (small,) = results["solvers"].values()
    assert sum(small["solver"].values()) == small["points"]
    assert small["of the head's certificates"]["falsified"] == 0


def test_the_map_in_small(cache, tmp_path):
    out = tmp_path / "map.png"
    options = ("--side", 40, "--train", 2000, "--out", out)
    assert "of 1600 positions certified" in run(cache, FOLDER / "map.py", *options)
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_losses_in_small(cache, tmp_path):
    out = tmp_path / "losses.json"
    printed = run(cache, FOLDER / "losses.py", "--quick", "--out", out)
    rows = json.loads(out.read_text())["rows"]
    assert [row["loss"] for row in rows] == ["cross-entropy"] + ["certified-set"] * 3
    for row in rows:
        assert row["points"] == 500
        assert f"{row['vra']:.3f}" in printed
