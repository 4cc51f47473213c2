"""The figures of the paper, drawn in small: what stands in them is what the library says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "figure2"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> tuple[Path, str]:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib, which is an extra")
    out = tmp_path_factory.mktemp("figure2") / "out"
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", str(FOLDER / "figure2.py")),
            *("--out", str(out), "--epochs", "8", "--side", "60"),
        ],
        cwd=out.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return out, done.stdout


def test_every_picture_is_there_in_both_formats(drawn):
    out, _ = drawn
    for name in ("figure1", "figure2"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (out / f"{name}.svg").read_text("utf-8")


def test_relaxing_certifies_more_and_top_2_is_no_relaxation(drawn):
    _, printed = drawn
    found = re.findall(r"^(.*): VRA (\d\.\d+), rejected", printed, re.MULTILINE)
    vra = {title: float(number) for title, number in found}
    assert vra["RT2"] > vra["Affinity {A,B}, {C,D}"] > vra["Local"]
    assert vra["The RT2 network asked for top-2"] < vra["RT2"]
    (more,) = re.findall(r"pointwise certifies (\d+) of 3600", printed)
    assert int(more) > 0


def test_figure_1_shows_a_point_that_is_top_1_robust_and_not_top_2_robust(monkeypatch):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib, which is an extra")
    monkeypatch.syspath_prepend(str(FOLDER))
    import figure1

    assert figure1.certified([3.0, 1.7, 1.2], 1)
    assert not figure1.certified([3.0, 1.7, 1.2], 2)
    assert figure1.certified([3.0, 2.0, 0.6], 1)
    assert figure1.certified([3.0, 2.0, 0.6], 2)
