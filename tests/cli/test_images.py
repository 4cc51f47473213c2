"""Image folders on the command line: checked, trained on, certified."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from relaxcert.cli import main
from tests.data.images import written


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["relaxcert", *arguments])
        monkeypatch.setattr("warnings.showwarning", None)
        status = 0
        try:
            main()
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def fashion(folder, images: int = 40):
    labels = (np.arange(images) % 10).astype(np.uint8)
    for prefix in ("train", "t10k"):
        written.idx(folder / f"{prefix}-images-idx3-ubyte", written.noise(1, images, 28, 28))
        written.idx(folder / f"{prefix}-labels-idx1-ubyte", labels, zipped=True)


def test_check_tells_what_a_folder_holds_and_draws_samples(run, tmp_path):
    fashion(tmp_path / "f")
    sheet = tmp_path / "sheet.png"
    status, out, _ = run("data", "check", str(tmp_path / "f"), "--sheet", str(sheet))
    assert status == 0
    for said in ("holds fashion-mnist", "1 x 28 x 28", "Ankle boot", "train has 40 images"):
        assert said in out
    assert sheet.read_bytes().startswith(b"\x89PNG")
    status, out, _ = run("data", "check", str(tmp_path / "f"), "--json")
    assert json.loads(out)["parts"]["test"]["counts"]["Bag"] == 4


def test_check_of_a_folder_without_images_is_one_clear_paragraph(run, tmp_path):
    status, _, err = run("data", "check", str(tmp_path))
    assert status == 2
    assert "expected one folder a class" in " ".join(err.split())


def test_the_papers_network_trains_on_a_folder_and_is_certified(run, tmp_path):
    fashion(tmp_path / "f")
    arguments = ("--recipe", "fashion-mnist-groups", "--data", str(tmp_path / "f"), "--epochs", "1")
    status, _, err = run("train", *arguments, "--out", str(tmp_path / "runs"))
    assert status == 0, err
    model = tmp_path / "runs" / "fashion-mnist-groups.safetensors"
    status, out, err = run("certify", str(model), "--data", f"{tmp_path / 'f'}:test", "--json")
    assert status == 0, err
    summary = json.loads(out)
    assert summary["points"] == 40
    assert {row["kind"] for row in summary["bounds"]} >= {"Conv2d", "Linear"}
