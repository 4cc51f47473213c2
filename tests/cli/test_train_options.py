"""Settings of a recipe that the command line overrides."""

from __future__ import annotations

import json
import sys

import pytest
from safetensors import safe_open

from relaxcert.cli import main
from relaxcert.cli.train import with_settings
from relaxcert.errors import InvalidInput
from relaxcert.training import load_recipe


def test_a_run_in_bf16_by_parts_is_recorded_and_resumed_only_alike(monkeypatch, tmp_path, capsys):
    def run(*options: str) -> int:
        command = ["train", "--recipe", "landsat-local", "--epochs", "1", "--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["relaxcert", *command, *options])
        monkeypatch.setattr("warnings.showwarning", None)
        try:
            main()
        except SystemExit as exit_:
            return int(exit_.code or 0)
        return 0

    assert run("--precision", "bf16", "--accumulate", "2") == 0
    with safe_open(tmp_path / "checkpoint.safetensors", framework="pt") as file:
        kept = json.loads(file.metadata()["state"])["optimisation"]
    assert (kept["precision"], kept["accumulate"], kept["compile"]) == ("bf16", 2, False)
    capsys.readouterr()
    assert run("--resume") == 2
    assert "precision='bf16', but this run has 'float32'" in capsys.readouterr().err


def test_what_is_not_given_stays_as_the_recipe_has_it():
    recipe = load_recipe("landsat-local")
    assert with_settings(recipe, epochs=None, precision=None, compile=None) == recipe
    changed = with_settings(recipe, epochs=3, precision="bf16", compile=True).optimisation
    assert (changed.epochs, changed.precision, changed.compile) == (3, "bf16", True)


@pytest.mark.parametrize("precision", ["fp8", "bfloat16", ""])
def test_an_unknown_precision_is_refused(precision):
    with pytest.raises(InvalidInput, match=r"--precision .*must be float32 or bf16"):
        with_settings(load_recipe("landsat-local"), precision=precision)
