"""Through torchrun: ranks that are killed, runs that are resumed, and the bytes of one process."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import typer.main
from safetensors import safe_open

from relaxcert.cli import app, main
from relaxcert.data import landsat
from relaxcert.heads import GloRoNet
from relaxcert.heads.model_file import load_model, save_model
from relaxcert.nn import dense
from relaxcert.spec import load_property
from relaxcert.training import Optimisation, fit

ROOT = Path(__file__).parents[2]
RECIPE = """\
recipe = 1
name = "small"
data = "landsat"
property = "landsat/soils"
[architecture]
hidden = [16]
[optimisation]
epochs = 30
batch_size = 256
learning_rate = { kind = "constant", value = 1e-2 }
"""
BLOCK = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("ranks")


def launch(ranks: int, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), "-m", "relaxcert", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


def kill_a_rank(process: subprocess.Popen[str], when: Callable[[], bool]) -> None:
    """SIGKILL the rank that was started last, in the middle of its work."""
    until = time.monotonic() + 240
    while not when():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    process.communicate(timeout=240)
    assert process.returncode != 0


def test_a_training_run_with_a_killed_rank_is_resumed_to_its_end(folder):
    recipe = folder / "small.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    out = folder / "out"
    command = ("train", "--recipe", recipe, "--out", out, "--validation", "landsat:validation")
    kill_a_rank(launch(2, *command), (out / "checkpoint.safetensors").exists)
    assert not (out / "small.safetensors").exists()
    said = finished(launch(2, *command, "--resume"))
    # Rank 0 alone speaks and writes.
    assert said.count("30 epochs in") == said.count("model written to") == 1
    with safe_open(out / "checkpoint.safetensors", framework="pt") as file:
        epochs = json.loads(file.metadata()["state"])["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == list(range(30))
    assert epochs[-1]["vra"] > 0.6
    assert load_model(out / "small.safetensors").net.prop == load_property("landsat/soils")


@pytest.fixture(scope="module")
def model(folder) -> Path:
    torch.manual_seed(0)
    net = GloRoNet(dense(36, [16], 6), load_property("landsat/soils"))
    chosen = Optimisation(epochs=3, temperature=0.1)
    fit(net, landsat("fit"), chosen, progress=False)
    return save_model(net, folder / "model.safetensors")


@pytest.fixture(scope="module")
def points(folder) -> Path:
    """1,003 points: 143 blocks of 7, and one of 2."""
    split = landsat("test")
    path = folder / "points.npz"
    np.savez(path, x=split.inputs[:1003].numpy(), y=split.labels[:1003].numpy())
    return path


def test_a_killed_certification_is_resumed_by_others_to_the_bytes_of_one_process(
    folder, model, points, monkeypatch, capsys
):
    common = (model, "--data", points, "--batch-size", BLOCK, "--out")
    out, alone = folder / "three", folder / "alone"
    parts = out / "parts"
    kill_a_rank(launch(3, "certify", *common, out), lambda: len([*parts.glob("block*")]) > 9)
    left = {path: path.stat().st_mtime_ns for path in parts.glob("block*")}
    assert 9 < len(left) < 144
    assert not (out / "verdicts.jsonl").exists()
    said = finished(launch(2, "certify", *common, out, "--resume"))
    assert said.count("1003") == 1
    monkeypatch.setattr(sys, "argv", ["relaxcert", "certify", *map(str, (*common, alone))])
    monkeypatch.setattr("warnings.showwarning", None)
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    capsys.readouterr()
    verdicts = (out / "verdicts.jsonl").read_bytes()
    assert verdicts == (alone / "verdicts.jsonl").read_bytes()
    assert [json.loads(line)["index"] for line in verdicts.splitlines()] == list(range(1003))
    found, expected = (json.loads((f / "summary.json").read_text()) for f in (out, alone))
    assert found["figures"] == expected["figures"]
    assert found["certified"] > 100
    assert {path.name for path in out.iterdir()} == {"verdicts.jsonl", "summary.json"}


@pytest.mark.parametrize(("rank", "who"), [("0", ""), ("1", "rank 1: ")])
def test_without_a_folder_several_ranks_say_what_they_need(
    model, points, monkeypatch, capsys, rank, who
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(sys, "argv", ["relaxcert", "certify", str(model), "--data", str(points)])
    monkeypatch.setattr("warnings.showwarning", None)
    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err
    assert said.startswith(f"{who}error: 2 processes share their results through files: give --out")


def test_resuming_needs_a_folder(model, points, monkeypatch, capsys):
    command = ["relaxcert", "certify", str(model), "--data", str(points), "--resume"]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr("warnings.showwarning", None)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "--resume needs --out" in capsys.readouterr().err


def test_the_torchrun_commands_of_the_guide_are_understood():
    lines = (ROOT / "docs" / "scale.md").read_text("utf-8").splitlines()
    found = [shlex.split(line.split("-m relaxcert ")[1]) for line in lines if "$ torchrun" in line]
    assert len(found) >= 3
    commands = typer.main.get_command(app).commands
    for name, *arguments in found:
        commands[name].make_context(name, arguments)
