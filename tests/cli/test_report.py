"""``relaxcert report``: from verdict files to a page, and one paragraph for each mistake."""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="reports are an extra")
pytest.importorskip("jinja2", reason="reports are an extra")

from relaxcert.cli import main
from relaxcert.heads.model_file import save_model
from relaxcert.report.verdicts import POINTS
from relaxcert.spec import Affinity, AffinitySets
from tests.report.synthetic import prototypes, write_run

NAMES = [f"class {label}" for label in "abcdef"]
PROP = Affinity(AffinitySets([[0, 1, 2], [3, 4], [5]], 6), eps="0.2")


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["relaxcert", *map(str, arguments)])
        with monkeypatch.context() as patch:
            patch.setattr("warnings.showwarning", warnings.showwarning)
            try:
                main()
                status = 0
            except SystemExit as exit_:
                status = exit_.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def certified(tmp_path, monkeypatch, run):
    """A folder in which a model was certified and attacked by the real commands."""
    monkeypatch.chdir(tmp_path)
    points, labels = prototypes(6, 60)
    net = write_run(tmp_path / "unused", PROP, points, labels, NAMES)
    save_model(net, tmp_path / "net.safetensors", class_names=NAMES, notes={"seed": "7"})
    np.savez(tmp_path / "points.npz", x=points.numpy(), y=labels.numpy())
    command = ("net.safetensors", "--data", "points.npz")
    assert run("certify", *command, "--out", "verdicts")[0] == 0
    assert run("attack", *command, "--steps", "5", "--summary", "verdicts/attack.json")[0] == 0
    return tmp_path / "verdicts"


def test_certify_attack_report(certified, run, tmp_path):
    status, shown, complaint = run("report", "verdicts", "-o", "page.html", "--title", "Mine")
    assert (status, complaint) == (0, "")
    assert "60 points" in shown
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<title>Mine" in page
    assert "relaxcert certify net.safetensors --data points.npz --out verdicts" in page
    assert "No certificate was broken." in page
    assert "x = (" in page
    assert "<dt>seed</dt><dd>7</dd>" in page
    summary = json.loads((certified / "summary.json").read_text())
    for field in ("model_sha256", "data_sha256", "digest", "weights_sha256"):
        assert len(summary[field]) == 64
        assert summary[field] in page


def test_json_says_what_was_written(certified, run, tmp_path):
    status, shown, _ = run("report", "verdicts", "-o", "page.html", "--json")
    told = json.loads(shown)
    assert status == 0
    assert told["bytes"] == (tmp_path / "page.html").stat().st_size
    assert [entry["run"] for entry in told["runs"]] == ["verdicts"]


def test_several_runs_are_compared(certified, run, tmp_path):
    points, labels = prototypes(6, 40)
    write_run(tmp_path / "both" / "one", PROP, points, labels, NAMES)
    write_run(tmp_path / "both" / "two", PROP.with_eps("0.1"), points, labels, NAMES)
    assert run("report", "both", "-o", "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert '<section id="comparison">' in page
    assert page.count("<article") == 2
    status, _, complaint = run("report", "both", "--attack", "verdicts/attack.json")
    assert status == 2
    assert "are about one run" in complaint


def test_points_that_are_not_those_are_never_shown(certified, run, tmp_path):
    points, labels = prototypes(6, 60, seed=1)
    np.savez(tmp_path / "points.npz", x=points.numpy(), y=labels.numpy())
    status, shown, _ = run("report", "verdicts", "-o", "page.html")
    assert status == 0
    assert "does not hold the points that were certified" in shown
    assert "x = (" not in (tmp_path / "page.html").read_text("utf-8")
    status, _, complaint = run("report", "verdicts", "--data", "points.npz")
    assert status == 2
    assert "does not hold the points" in complaint
    (tmp_path / "points.npz").unlink()
    assert run("report", "verdicts", "-o", "page.html")[0] == 0


def test_mistakes_are_one_paragraph_and_write_nothing(certified, run, tmp_path):
    for arguments in (
        ("nowhere",),
        ("verdicts", "--data", "missing.npz"),
        ("verdicts", "--attack", "missing.json"),
        ("verdicts", "--crosscheck", "missing"),
    ):
        status, _, complaint = run("report", *arguments, "-o", "new.html")
        assert status == 2, arguments
        assert complaint.startswith("error: ")
        assert complaint.count("\n") == 1
    lines = (certified / POINTS).read_text().splitlines()
    (certified / POINTS).write_text("\n".join(lines[:-1]) + "\n")
    status, _, complaint = run("report", "verdicts", "-o", "new.html")
    assert status == 2
    assert "do not belong together" in complaint
    assert not (tmp_path / "new.html").exists()
