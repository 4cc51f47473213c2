"""``relaxcert demo``, cut short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from relaxcert.data import landsat
from relaxcert.heads.model_file import load_model
from relaxcert.training import evaluate

ROOT = Path(__file__).parents[2]
NAMES = ("landsat-local", "landsat-rt3", "landsat-soils")


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "relaxcert", "demo", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    pytest.importorskip("matplotlib", reason="the demo draws a picture, which is an extra")
    out = tmp_path_factory.mktemp("demo") / "out"
    done = demo("--epochs", "1", "--no-attack", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out, done.stdout


def test_the_demo_leaves_models_verdicts_results_and_a_picture(finished):
    out, _ = finished
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    expected = {"demo.png", "results.json"}
    for name in NAMES:
        expected |= {f"{name}.safetensors", f"{name}/verdicts.jsonl", f"{name}/summary.json"}
    assert files == expected
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_the_demos_table_is_what_its_models_really_reach(finished):
    out, shown = finished
    results = json.loads((out / "results.json").read_text("utf-8"))
    assert [result["recipe"] for result in results] == list(NAMES)
    test = landsat("test")
    for result in results:
        model = load_model(out / f"{result['recipe']}.safetensors")
        figures, certificates = evaluate(model.net, test.inputs, test.labels)
        assert figures.as_dict() == {name: result[name] for name in figures.as_dict()}
        assert result["attack"] is None
        assert f"{figures.vra:.3f}" in shown
        summary = json.loads((out / result["recipe"] / "summary.json").read_text("utf-8"))
        assert summary["certified"] == int(certificates.certified.sum())
        lines = (out / result["recipe"] / "verdicts.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(line)["certified"] for line in lines] == certificates.certified.tolist()
        assert [json.loads(line)["label"] for line in lines] == test.labels.tolist()


def test_relaxing_the_guarantee_certifies_more(finished):
    out, _ = finished
    local, rt3, _ = json.loads((out / "results.json").read_text("utf-8"))
    assert local["vra"] < rt3["vra"]
    assert local["rejection_rate"] > rt3["rejection_rate"]
    assert torch.tensor([local["top1_accuracy"], rt3["top1_accuracy"]]).min() > 0.5
