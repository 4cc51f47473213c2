"""Networks of other formats on the command line, and ONNX files that certify by themselves."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from relaxcert.errors import InvalidInput, ModelFileError
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.interop import export_backbone, load_network
from relaxcert.spec import Local, RelaxedTopK
from tests.interop.test_nnet import SMALL
from tests.networks import randn, random_backbone

PROPERTY = """\
relaxcert = 1
name = "own/two"
title = "Two"
source = "a test"
num_classes = 3

[property]
kind = "relaxed-top-k"
k = 2
eps = "0.3"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A .nnet file of 2 features and 3 classes, an .onnx file, a model file, points."""
    monkeypatch.chdir(tmp_path)
    Path("small.nnet").write_text(SMALL, encoding="latin-1")
    backbone = random_backbone(1, 2, (8,), 3)
    export_backbone(backbone, "net.onnx")
    save_model(GloRoNet(backbone, RelaxedTopK(2, eps="3/10")), "model.safetensors")
    inputs = randn(3, 50, 2).clamp(-0.5, 0.5)  # the region of the .nnet file
    np.savez("points.npz", x=inputs.float().numpy(), y=np.zeros(50, dtype=np.int64))
    return tmp_path


def certify(run, model, *more):
    status, out, err = run("certify", model, "--data", "points.npz", "--json", *more)
    assert (status, err) == (0, ""), err
    return json.loads(out)


def test_the_same_network_from_two_formats_has_the_same_certificates(run, folder):
    prop = _document(folder)
    saved = certify(run, "model.safetensors")
    imported = certify(run, "net.onnx", "--property", prop)
    assert imported["certified"] == saved["certified"]
    assert 0 < saved["certified"] < 50
    assert imported["digest"] == saved["digest"]
    # --best min turns every score round.
    assert (
        certify(run, "net.onnx", "--property", prop, "--best", "min")["digest"] == saved["digest"]
    )


def test_bounds_of_a_nnet_file(run, folder):
    status, out, _ = run("bounds", "small.nnet", "--property", _document(folder), "--json")
    assert status == 0
    assert [row["kind"] for row in json.loads(out)["layers"]] == ["Linear", "ReLU", "Linear"]
    assert certify(run, "small.nnet", "--property", _document(folder))["points"] == 50


def test_export_certifies_in_onnxruntime(run, folder):
    status, out, err = run(
        "export", "model.safetensors", "--onnx", "out.onnx", "--backbone", "b.onnx", "--json"
    )
    assert (status, err) == (0, "")
    assert json.loads(out)["onnx"] == "out.onnx"
    session = onnxruntime.InferenceSession("out.onnx", providers=["CPUExecutionProvider"])
    inputs = np.load("points.npz")["x"]
    certified = session.run(["certified"], {"x": inputs})[0]
    assert certified.sum() == certify(run, "model.safetensors")["certified"]
    assert Path("b.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["certify", "net.onnx", "--data", "points.npz"], "--property"),
        (["certify", "small.nnet", "--data", "points.npz"], "holds a network but no property"),
        (["bounds", "model.safetensors", "--best", "min"], "--best min is for .onnx and .nnet"),
        (["bounds", "net.onnx", "--best", "least"], "--best least must be min or max"),
        (["bounds", "missing.nnet", "--property", "prop.toml"], "there is no such file"),
        (["bounds", "net.onnx", "--property", "acasxu/adjacent-advisories"], "classes"),
        (["export", "model.safetensors"], "nothing to export"),
        (["export", "model.safetensors", "--onnx", "o.onnx", "--input-shape", "2,x"], "2,x"),
    ],
)
def test_mistakes_are_one_paragraph(run, folder, arguments, message):
    _document(folder)
    before = sorted(path.name for path in folder.iterdir())
    status, _, err = run(*arguments)
    assert status == 2
    assert message in " ".join(err.split())
    assert err.count("error:") == 1
    assert sorted(path.name for path in folder.iterdir()) == before


def test_load_network_refuses_what_it_does_not_know(folder):
    with pytest.raises(ModelFileError, match="unknown kind of network file"):
        load_network("points.npz", Local(eps=1))
    with pytest.raises(InvalidInput, match="no property"):
        load_network("net.onnx")
    with pytest.raises(InvalidInput, match=r"for \.onnx and .nnet files only"):
        load_network("model.safetensors", best="max")
    other = load_network("model.safetensors", Local(eps=1))
    assert other.net.prop == Local(eps=1)
    assert torch.equal(
        other.net.backbone(torch.ones(1, 2)),
        load_network("net.onnx", Local(eps=1)).net.backbone(torch.ones(1, 2)),
    )


def _document(folder: Path) -> Path:
    path = folder / "prop.toml"
    path.write_text(PROPERTY)
    return path


def test_points_outside_the_region_of_a_nnet_file_are_warned_of(run, folder):
    """The file records 0 to 10 and -3.25 to 3.25: what lies outside is noticed."""
    Path("own.toml").write_text(PROPERTY)
    np.savez("degrees.npz", x=np.array([[0.0, 0.0], [0.0, 135.0]]))
    arguments = ["certify", "small.nnet", "--property", "own.toml", "--data"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, _, err = run(*arguments, "degrees.npz")
    assert status == 0
    assert "warning: input 1 of point 1 is 877.5, but the network was made for -3.25 to 3.25" in err
    assert "and the points normalised" in err
    np.savez("inside.npz", x=np.zeros((2, 2)))
    assert run(*arguments, "inside.npz")[::2] == (0, "")
    assert load_network("net.onnx", RelaxedTopK(2, eps="3/10")).warn_of_inputs is None
