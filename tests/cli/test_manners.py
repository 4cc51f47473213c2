"""Manners of every command: JSON, silence in pipes, bars for people, completion, faults."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import sys
import threading

import numpy as np
import pytest
import torch
import typer.main

from relaxcert.cli import app, common, properties
from relaxcert.cli.common import table
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.spec import Local, RelaxedTopK
from tests.networks import randn, random_backbone


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with a model and labelled points."""
    monkeypatch.chdir(tmp_path)
    net = GloRoNet(random_backbone(1, 36, (8,), 6), RelaxedTopK(2, eps="0.2"))
    save_model(net, "model.safetensors")
    inputs = randn(3, 30, 36)
    np.savez("points.npz", x=inputs.numpy(), y=net.certify(inputs).prediction.numpy())
    return tmp_path


def commands(group: object, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    found = []
    for name, command in getattr(group, "commands", {}).items():
        inner = commands(command, (*path, name))
        found += inner or [((*path, name), command)]
    return found


COMMANDS = commands(typer.main.get_command(app))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(p) for p, _ in COMMANDS])
def test_every_command_speaks_json(path, command):
    assert "--json" in {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor",),
        ("properties", "list"),
        ("properties", "show", "landsat/soils"),
        ("train", "--list"),
        ("bounds", "model.safetensors"),
        ("certify", "model.safetensors", "--data", "points.npz"),
        ("attack", "model.safetensors", "--data", "points.npz", "--points", 4, "--steps", 2),
        ("train", "--data", "points.npz", "--epochs", 1, "--test", "points.npz"),
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:2])),
)
def test_json_is_all_that_is_printed_and_pipes_get_no_escape_codes(run, folder, arguments):
    status, out, err = run(*arguments, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    assert out.strip()
    assert "\x1b" not in out


def test_properties_in_json_hold_the_same_as_the_library(run, tmp_path):
    shown = json.loads(run("properties", "show", "landsat/soils", "--json")[1])
    text = run("properties", "show", "landsat/soils")[1]
    path = tmp_path / "mine.toml"
    path.write_text(text[text.index("relaxcert = 1") :], encoding="utf-8")
    checked = json.loads(run("properties", "check", path, "--json")[1])
    assert checked["ok"]
    assert checked["digest"] == shown["digest"]
    assert shown["num_classes"] == 6
    listed = json.loads(run("properties", "list", "--json")[1])
    assert {"landsat/soils"} <= {entry["name"] for entry in listed}


def on_a_terminal(monkeypatch, action) -> str:
    """What an action writes to standard error when that is a terminal."""
    reading, writing = pty.openpty()
    with os.fdopen(writing, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        patch.setenv("TERM", "xterm")
        received: list[bytes] = []
        done = threading.Event()

        def drain() -> None:
            os.set_blocking(reading, False)
            while not done.wait(0.01):
                try:
                    received.append(os.read(reading, 1 << 16))
                except BlockingIOError:
                    continue
            with contextlib.suppress(BlockingIOError):
                received.append(os.read(reading, 1 << 16))

        reader = threading.Thread(target=drain)
        reader.start()
        try:
            action()
            terminal.flush()
        finally:
            done.set()
            reader.join()
    os.close(reading)
    return b"".join(received).decode()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("bounds", "model.safetensors"), ["proving bounds"]),
        (
            ("certify", "model.safetensors", "--data", "points.npz"),
            ["proving bounds", "certifying"],
        ),
        (("train", "--data", "points.npz", "--epochs", 2), ["training: loss", "2/2"]),
        (
            ("crosscheck", "model.safetensors", "--data", "points.npz", "--points", 2),
            ["cross-checking", "2/2"],
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_person_who_watches_sees_a_bar_with_a_rate(run, folder, monkeypatch, arguments, shown):
    text = on_a_terminal(monkeypatch, lambda: run(*arguments))
    for words in shown:
        assert words in text
    assert "/s" in text or "s each" in text


def test_bounds_are_counted_layer_by_layer(monkeypatch):
    net = GloRoNet(random_backbone(1, 4, (5, 5), 3), Local(eps=1, norm="l2"))
    told: list[tuple[str, int]] = []
    net.verify(on_layer=lambda name, total: told.append((name, total)))
    assert len(told) == told[0][1]
    assert [name for name, _ in told][1:] == [row.path for row in net.lipschitz.table()][:-1]
    told.clear()
    net.verify(on_layer=lambda name, total: told.append((name, total)))
    assert told == []  # nothing was left to prove


def test_shells_complete_commands(run, monkeypatch):
    monkeypatch.setenv("_RELAXCERT_COMPLETE", "source_bash")
    status, out, _ = run()
    assert status == 0
    assert "complete -o default -F _relaxcert_completion relaxcert" in out
    monkeypatch.setenv("_RELAXCERT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "relaxcert cer")
    monkeypatch.setenv("COMP_CWORD", "1")
    status, out, _ = run()
    assert (status, out.split()) == (0, ["certify"])
    monkeypatch.delenv("_RELAXCERT_COMPLETE")
    assert "--install-completion" in run("--help")[1]


def test_a_fault_of_our_own_is_one_paragraph_and_not_status_1(run, monkeypatch):
    def faulty() -> list[str]:
        raise KeyError("lost\nand found")

    monkeypatch.setattr(properties, "catalogue", faulty)
    status, out, err = run("properties", "list")
    assert (status, out) == (70, "")
    assert err.startswith("fault in relaxcert: KeyError: ")
    assert err.count("\n") == 1
    assert "relaxcert --debug properties list" in err
    with pytest.raises(KeyError):
        run("--debug", "properties", "list")


def test_debug_shows_the_traceback_of_a_mistake(run):
    assert run("properties", "show", "none/such")[0] == 2
    with pytest.raises(common.InvalidInput.__mro__[1]):
        run("--debug", "properties", "show", "none/such")


def test_no_memory_is_one_paragraph_that_says_what_to_do(run, monkeypatch):
    def full() -> list[str]:
        raise MemoryError

    monkeypatch.setattr(properties, "catalogue", full)
    status, _, err = run("properties", "list")
    assert status == 2
    assert "--batch-size" in err


def test_the_doctor_says_what_would_stop_certification(run):
    status, out, _ = run("doctor")
    assert status == 0
    assert "nothing found here would stop certification" in out
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        status, out, _ = run("doctor")
    finally:
        torch.set_flush_denormal(False)
    assert status == 1
    assert "problem: cpu: subnormal numbers are flushed" in out


def test_a_column_that_repeats_the_one_before_it_is_shown_once():
    shown = table("figures", ["VRA", "top-1 accuracy", "top-1 accuracy"], [["0.8", "0.9", "0.9"]])
    assert [column.header for column in shown.columns] == ["VRA", "top-1 accuracy"]
    assert shown.row_count == 1
