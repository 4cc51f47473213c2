"""Notebooks: made from the examples as they are, well formed, and run cell by cell in small."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def maker():
    specification = importlib.util.spec_from_file_location("make", FOLDER / "make.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == sorted(maker().NAMES)
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_that_of_its_example(path):
    source = (FOLDER.parent / f"{path.stem}.py").read_text("utf-8")
    told = "it is out of date: run python examples/notebooks/make.py"
    assert path.read_text("utf-8") == maker().notebook(source), told


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_well_formed(path):
    content = json.loads(path.read_text("utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    identities = [cell["id"] for cell in content["cells"]]
    assert len(set(identities)) == len(identities)
    assert {cell["cell_type"] for cell in content["cells"]} == {"markdown", "code"}
    # The format's own validator, where it is installed.
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbformat.validate(nbformat.reads(json.dumps(content), as_version=4))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_run_in_order(path, tmp_path, monkeypatch, capsys):
    """With one epoch in place of several; everything else as it stands."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    with torch.random.fork_rng():
        for number, cell in enumerate(json.loads(path.read_text("utf-8"))["cells"]):
            if cell["cell_type"] == "code":
                text = re.sub(r"epochs=\d+", "epochs=1", "".join(cell["source"]))
                exec(compile(text, f"cell {number}", "exec", dont_inherit=True), namespace)
    assert capsys.readouterr().out.strip()
