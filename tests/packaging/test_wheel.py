"""Wheel and sdist: what they hold, and that the wheel works where nothing else of ours is."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build", reason="the wheel is built with python -m build")
pytest.importorskip("hatchling", reason="the wheel is built without isolation")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """A wheel (built from the sdist, as an index would) and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def tracked(*folders: str) -> set[str]:
    """Files of the source tree, without what running it leaves behind."""
    return {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_code_catalogue_recipes_data_types_and_licence(built):
    names = set(zipfile.ZipFile(built[0]).namelist())
    assert {f"relaxcert/{name}" for name in tracked("properties")} <= names
    assert tracked("relaxcert") <= names
    assert "relaxcert/data/satimage.npz" in names
    assert "relaxcert/py.typed" in names
    assert any(name.endswith("landsat-rt3.toml") for name in names)
    assert any(name.endswith("/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "examples/", "properties/")) for name in names)
    assert not any(name.endswith(".pyc") for name in names)


def test_the_wheel_is_small(built):
    assert built[0].stat().st_size < 2 * 2**20


def test_the_sdist_holds_properties_tests_examples_and_what_they_need(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked("relaxcert", "properties", "tests", "examples") <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt"} <= names


def test_the_metadata_names_version_licence_script_and_lower_bounds_only(built):
    import relaxcert

    with zipfile.ZipFile(built[0]) as wheel:
        (place,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        lines = wheel.read(place).decode().partition("\n\n")[0].splitlines()
        scripts = wheel.read(place.replace("METADATA", "entry_points.txt")).decode()
    assert f"Version: {relaxcert.__version__}" in lines
    assert "License-Expression: MIT" in lines
    assert "relaxcert = relaxcert.cli:main" in scripts
    needs = [line for line in lines if line.startswith("Requires-Dist: ")]
    assert needs
    assert not [line for line in needs if "<" in line or "==" in line.partition(";")[0]]


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> tuple[Path, Path]:
    """A fresh environment with our wheel; the pinned dependencies are borrowed by a .pth file."""
    place = tmp_path_factory.mktemp("env") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    python = place / "bin" / "python"
    command = "import sysconfig; print(sysconfig.get_path('purelib'))"
    inner = Path(subprocess.check_output([str(python), "-c", command], text=True).strip())
    # A path in a .pth file is searched, but .pth files there (editable installs) are not followed.
    borrowed = sorted({str(Path(module.__file__).parents[1]) for module in _dependencies()})
    (inner / "borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "--ignore-installed"]
    subprocess.run([*pip, *options, str(built[0])], check=True, timeout=120)
    return place, inner


def _dependencies():
    import numpy
    import torch
    import typer

    return numpy, torch, typer


def run_inside(installed: tuple[Path, Path], *command: str) -> str:
    place, _ = installed
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(place / "bin" / command[0]), *command[1:]],
        cwd=place,  # away from the source tree
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_installed_wheel_finds_its_own_properties_recipes_and_data(installed):
    code = """
import relaxcert
from relaxcert.data import landsat
from relaxcert.spec.catalogue import catalogue, _folder
from relaxcert.training import load_recipe, recipes
print(relaxcert.__file__)
print(_folder())
print(len(catalogue()), relaxcert.load_property("landsat/soils").ball.eps)
print(len(recipes()), load_recipe("landsat-rt3").property, len(landsat("test")))
"""
    shown = run_inside(installed, "python", "-c", code).splitlines()
    _, inner = installed
    assert shown[0] == str(inner / "relaxcert" / "__init__.py")
    assert shown[1] == str(inner / "relaxcert" / "properties")
    count = len(list((ROOT / "properties").rglob("*.toml")))
    assert shown[2] == f"{count} 3/100"
    recipes = len(list((ROOT / "relaxcert" / "training" / "recipes").glob("*.toml")))
    assert shown[3] == f"{recipes} landsat/rt3 2000"


def test_the_installed_script_runs(installed):
    assert "landsat/soils" in run_inside(installed, "relaxcert", "properties", "list")


def test_the_pins_cover_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needs = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        needs += extra
    pins = (ROOT / "constraints.txt").read_text("utf-8").lower().replace("_", "-")
    for need in needs:
        name = need.partition(">")[0].partition("[")[0].strip().lower()
        if name == project["name"]:
            continue  # its own extras, which are looked at one by one
        assert f"{name}==" in pins, name
    assert "torch==2.13.0" in pins
