"""The folder of examples: its list is complete, and each is short."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
LIST = (FOLDER / "README.md").read_text("utf-8")
# Programs that print a table of the documentation are longer.
TABLES = {"cost_of_soundness.py"}
SHORT = sorted([*FOLDER.glob("*.py"), *FOLDER.glob("figure2/*.py")])


def test_the_list_names_every_example_and_nothing_else():
    names = {line.split("`")[1] for line in LIST.splitlines() if line.startswith("| `")}
    assert all((FOLDER / name).exists() for name in names)
    listed = {name.split("/")[0] for name in names}
    present = {
        path.name for path in FOLDER.iterdir() if path.name not in ("README.md", "__pycache__")
    }
    assert listed == present


@pytest.mark.parametrize("path", SHORT, ids=lambda path: path.name)
def test_an_example_is_short(path):
    if path.name not in TABLES:
        assert len(path.read_text("utf-8").splitlines()) < 80
