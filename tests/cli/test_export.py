"""``relaxcert export --vnnlib``: a folder of files that others can read, from a real model file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.interop.vnnlib import parse_vnnlib, read_manifest
from relaxcert.interop.vnnlib.manifest import files_of
from relaxcert.spec import RelaxedTopK, digest, load_property
from tests.interop.vnnlib.evaluate import Parsed2
from tests.networks import randn, random_backbone


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder with a model of 36 features and 6 classes, and points."""
    monkeypatch.chdir(tmp_path)
    net = GloRoNet(random_backbone(1, 36, (8,), 6), RelaxedTopK(3, eps="36/255"))
    save_model(net, "model.safetensors", class_names=list("abcdef"))
    np.savez("points.npz", x=randn(3, 5, 36).numpy(), y=np.zeros(5, dtype=np.int64))
    return tmp_path


def test_export_writes_files_and_a_manifest(run, folder):
    arguments = ["export", "model.safetensors", "--vnnlib", "queries", "--data", "points.npz"]
    status, out, err = run(*arguments, "--points", 4, "--json")
    assert (status, err) == (0, "")
    summary = json.loads(out)
    assert summary["points"] == 4
    assert summary["files"] == summary["boxes_around_balls"] == 12
    assert summary["most_conjunctions"] == 9  # k (C - k) at k = 3
    manifest = read_manifest(folder / "queries")
    assert manifest.class_names == tuple("abcdef")
    assert manifest.digest == summary["digest"] == digest(RelaxedTopK(3, eps="36/255"))
    for entry in manifest.points:
        for file in files_of(entry.robust):
            query = parse_vnnlib((folder / "queries" / file.file).read_text())
            assert (query.num_inputs, query.num_outputs) == (36, 6)


def test_export_of_another_property_in_version_2(run, folder):
    arguments = ["export", "model.safetensors", "--vnnlib", "q", "--data", "points.npz"]
    status, out, _ = run(
        *arguments, "--property", "landsat/soils", "--vnnlib-version", "2.0", "--points", 2
    )
    assert status == 0
    assert "2 " in out
    manifest = read_manifest(folder / "q")
    assert manifest.digest == digest(load_property("landsat/soils"))
    files = [file for entry in manifest.points for file in files_of(entry.robust)]
    assert {file.inputs for file in files} == {"ball"}
    for file in files:
        assert list(Parsed2((folder / "q" / file.file).read_text()).inputs.shape) == [1, 36]


def test_skipped_points_are_named(run, folder):
    net = GloRoNet(random_backbone(1, 36, (8,), 6), RelaxedTopK(3, eps=1))
    for parameter in net.backbone.parameters():
        parameter.data.zero_()
    save_model(net, "zero.safetensors")
    status, out, _ = run("export", "zero.safetensors", "--vnnlib", "q", "--data", "points.npz")
    assert status == 0
    assert "point 4 skipped: logits at x are so close" in out
    assert "5 of 5 points have no query" in out
    assert [path.name for path in (folder / "q").iterdir()] == ["manifest.json"]


MODEL = ["export", "model.safetensors"]
DATA = ["--data", "points.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*MODEL, *DATA], "nothing to export"),
        ([*MODEL, "--vnnlib", "q"], "--vnnlib needs --data"),
        ([*MODEL, *DATA, "--vnnlib", "q", "--vnnlib-version", "3"], "3 must be 1.0 or 2.0"),
        ([*MODEL, *DATA, "--vnnlib", "q", "--scale", "inf"], "must be finite"),
        ([*MODEL, *DATA, "--vnnlib", "q", "--property", "cifar100/rt5"], "100 classes"),
        ([*MODEL, *DATA, "--vnnlib", "q", "--property", "cifar100/superclasses"], "100 classes"),
        ([*MODEL, *DATA, "--vnnlib", "q", "--property", "none/such"], "none/such"),
        ([*MODEL, *DATA, "--vnnlib", "points.npz"], "error:"),
        (["export", "none.safetensors", *DATA, "--vnnlib", "q"], "there is no such file"),
    ],
)
def test_mistakes_are_one_paragraph(run, folder, arguments, message):
    status, _, err = run(*arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err
