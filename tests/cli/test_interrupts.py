"""Ctrl-C through the real command line: status 130, and one line that says how to go on."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from relaxcert.cli import crosscheck, train
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.spec import Local
from tests.networks import randn, random_backbone

ROOT = Path(__file__).parents[2]
RECIPE = """\
recipe = 1
name = "wide"
data = "landsat"
property = "landsat/rt3"

[architecture]
hidden = [256, 256]

[optimisation]
epochs = 10
"""


def interrupted_when(ready, folder: Path, *arguments: object) -> tuple[int, str, str]:
    """Start a command, press Ctrl-C (for the whole group, as a terminal does) once it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "relaxcert", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job ignores Ctrl-C, and its children would.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    limit = time.monotonic() + 120
    while not ready() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def one_line(err: str) -> str:
    assert err.startswith("interrupted: ")
    assert err.count("\n") == 1
    return err.strip()


def epochs_of(checkpoint: Path) -> int:
    with safe_open(checkpoint, framework="pt") as file:
        return len(json.loads(file.metadata()["state"])["epochs"])


def test_training_stops_at_ctrl_c_and_goes_on_by_the_command_that_it_names(
    run, tmp_path, monkeypatch
):
    (tmp_path / "wide.toml").write_text(RECIPE, encoding="utf-8")
    checkpoint = tmp_path / "runs" / "checkpoint.safetensors"
    arguments = ("train", "--recipe", "wide.toml", "--out", "runs")
    status, out, err = interrupted_when(checkpoint.exists, tmp_path, *arguments)
    assert (status, out) == (130, "")
    said, command = one_line(err).split("go on with: ")
    assert "the last checkpoint is in runs" in said
    assert command == f"relaxcert {' '.join(arguments)} --resume"
    before = epochs_of(checkpoint)
    assert 0 < before < 10
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*shlex.split(command)[1:], "--json")
    assert (status, err) == (0, "")
    assert [epoch["epoch"] for epoch in json.loads(out)["epochs"]] == list(range(10))
    assert epochs_of(checkpoint) == 10


def test_a_cross_check_in_processes_stops_and_goes_on(run, tmp_path, monkeypatch):
    """Workers end too, and what the solver was at is not recorded as undecided."""
    net = GloRoNet(random_backbone(1, 6, (10, 10), 4), Local(eps="0.05"))
    save_model(net, tmp_path / "net.safetensors")
    np.save(tmp_path / "points.npy", randn(3, 200, 6).numpy())
    results = tmp_path / "out" / "crosscheck.jsonl"
    arguments = ("crosscheck", "net.safetensors", "--data", "points.npy", "--out", "out")

    def some_are_done() -> bool:
        return results.exists() and results.read_bytes().count(b"\n") > 2

    status, out, err = interrupted_when(some_are_done, tmp_path, *arguments, "--jobs", 2)
    assert (status, out) == (130, "")
    said, command = one_line(err).split("go on with: ")
    assert "out/crosscheck.jsonl" in said
    kept = results.read_text("utf-8").splitlines()
    assert 2 < len(kept) <= 200
    assert "cancel" not in "".join(kept)
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*shlex.split(command)[1:-2], "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["points"] == 200
    lines = results.read_text("utf-8").splitlines()
    assert lines[: len(kept)] == kept
    assert len(lines) == 201


def test_before_the_first_checkpoint_it_says_to_start_again(run, tmp_path, monkeypatch):
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", stopped)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"of an earlier run")
    status, _, err = run("train", "--out", str(tmp_path))
    assert status == 130
    assert one_line(err).endswith(f"start again with: relaxcert train --out {tmp_path}")
    assert "no epoch was kept" in err
    status, _, err = run("train", "--out", str(tmp_path), "--resume")
    assert one_line(err).endswith(f"go on with: relaxcert train --out {tmp_path} --resume")


def test_what_keeps_nothing_says_so(run, tmp_path, monkeypatch):
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    net = GloRoNet(random_backbone(1, 6, (8,), 4), Local(eps="0.05"))
    model = str(save_model(net, tmp_path / "net.safetensors"))
    np.save(tmp_path / "points.npy", torch.ones(3, 6).numpy())
    points = str(tmp_path / "points.npy")
    monkeypatch.setattr(crosscheck, "crosscheck_all", stopped)
    status, _, err = run("crosscheck", model, "--data", points)
    assert status == 130
    assert "without --out no result is kept" in one_line(err)
    monkeypatch.setattr(GloRoNet, "certify", stopped)
    status, out, err = run("certify", model, "--data", points, "--out", str(tmp_path / "out"))
    assert (status, out) == (130, "")
    assert "no block was kept yet; start again with: relaxcert certify" in one_line(err)
    assert not (tmp_path / "out").exists()
