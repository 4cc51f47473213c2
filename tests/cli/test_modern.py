"""The -modern recipes in small: dry run, training, certificates; what ``models`` lists."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from relaxcert.cli import main
from relaxcert.spec.catalogue import load_document
from relaxcert.training import load_recipe, recipes
from relaxcert.training.architectures import ARCHITECTURES
from tests.data.images import written

MODERN = [name for name in recipes() if name.endswith("-modern")]
SMALL = {"width": 4, "depth": 2, "features": 8}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sets")
    for part in ("train", "test"):
        written.cifar_binary(root / "cifar100", [0, 99, 7, 7], part)
    written.eurosat(root / "eurosat", load_document("eurosat/local").class_names, images=2)
    written.tiny_imagenet(root / "tiny-imagenet", [f"n{n:08}" for n in range(3)], images=1)
    for prefix in ("train", "t10k"):
        pixels = written.noise(1, 20, 28, 28)
        written.idx(root / "fashion-mnist" / f"{prefix}-images-idx3-ubyte", pixels)
        labels = (np.arange(20) % 10).astype(np.uint8)
        written.idx(root / "fashion-mnist" / f"{prefix}-labels-idx1-ubyte", labels)
    return {name: root / name for name in ("cifar100", "eurosat", "tiny-imagenet", "fashion-mnist")}


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["relaxcert", *map(str, arguments)])
        monkeypatch.setattr("warnings.showwarning", None)
        status = 0
        try:
            main()
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def in_small(name: str, folder: Path) -> Path:
    """The recipe with a backbone of a few channels, all else as it ships."""
    document = load_recipe(name).model_dump(mode="json", exclude_none=True)
    document["architecture"] |= SMALL
    path = folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(document))
    return path


def test_each_image_set_has_modern_recipes_that_say_that_they_are_untuned():
    assert {load_recipe(name).data for name in MODERN} == {
        "cifar100",
        "eurosat",
        "fashion-mnist",
        "tiny-imagenet",
    }
    for name in MODERN:
        assert "untuned" in load_recipe(name).source
        assert name.removesuffix("-modern") in recipes() or "tiny-imagenet" in name


@pytest.mark.parametrize("name", MODERN)
def test_a_modern_recipe_passes_a_dry_run_in_small(run, folders, tmp_path, name):
    recipe = in_small(name, tmp_path)
    options = ("--data", folders[load_recipe(name).data], "--out", tmp_path / "run", "--json")
    status, printed, err = run("train", "--recipe", recipe, *options, "--dry-run")
    assert status == 0, err
    plan = json.loads(printed)
    assert len(plan["first_steps"]) == 3
    assert "Residual" not in {line["kind"] for line in plan["layers"]}  # shown as its parts
    assert "sum" in {line["kind"] for line in plan["layers"]}


@pytest.mark.parametrize(
    "name",
    ["cifar100-superclass-affinity-modern", "eurosat-local-modern", "tiny-imagenet-rt5-modern"],
)
def test_a_modern_recipe_trains_and_its_network_is_certified(run, folders, tmp_path, name):
    data, out = folders[load_recipe(name).data], tmp_path / "run"
    recipe = in_small(name, tmp_path)
    options = ("--recipe", recipe, "--data", data, "--epochs", 2, "--out", out)
    status, _, err = run("train", *options)
    assert status == 0, err
    part = "val" if "tiny" in name else "test"
    model = out / f"{name}.safetensors"
    status, printed, err = run("certify", model, "--data", f"{data}:{part}", "--json")
    assert status == 0, err
    summary = json.loads(printed)
    assert summary["points"] > 0
    assert all(np.isfinite(row["bound"]) for row in summary["bounds"])


def test_models_lists_each_architecture_with_its_figures(run):
    status, printed, err = run("models", "--shape", "1,8,8", "--classes", 4, "--json")
    assert status == 0, err
    rows = {row["name"]: row for row in json.loads(printed)["models"]}
    assert rows.keys() == ARCHITECTURES.keys()
    assert rows["dense"]["parameters"] == 64 * 256 + 256 * 256 * 2 + 256 * 3 + 256 * 4 + 4
    assert rows["dense"]["flops"] == 2 * (64 * 256 + 256 * 256 * 2 + 256 * 4)
    assert rows["dense-orthogonal"]["product_before_last"] == pytest.approx(1.0, abs=1e-5)
    assert rows["liresnet-modern"]["product_before_last"] < rows["liresnet"]["product_before_last"]
    for row in rows.values():
        assert row["largest_difference"] >= row["product_before_last"]


def test_models_takes_shape_and_classes_from_data_and_says_what_does_not_fit(run):
    status, printed, err = run("models", "dense", "conv", "--data", "landsat:train")
    assert status == 0, err
    assert "36 and 6 classes" in printed
    assert "conv does not fit: shape=(36,)" in printed


@pytest.mark.parametrize(
    ("options", "said"),
    [(("liresnett",), "Did you mean 'liresnet'"), (("--shape", "3x32"), "--shape 3x32 must be")],
)
def test_mistakes_are_one_clear_paragraph(run, options, said):
    status, _, err = run("models", *options)
    assert status == 2
    assert said in " ".join(err.split())
