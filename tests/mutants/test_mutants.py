"""A few of the seeded faults in every test run; ``make mutants`` runs them all."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.catalogue import BACKENDS, MUTANTS, NETWORKS, PROPERTY, RULES, Mutant
from tests.mutants.run import Outcome, StaleMutant, main, mutated, run, table

PACKAGE = Path(__file__).parents[2] / "relaxcert"
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


def test_there_are_enough_over_every_floor():
    assert len(BY_NAME) == len(MUTANTS) >= 30
    floors = {mutant.file.partition("/")[0] for mutant in MUTANTS}
    assert floors >= {"spec", "lipschitz", "heads", "smt"}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_fits_the_code_and_is_python(mutant):
    changed = mutated(mutant, PACKAGE)
    ast.parse(changed)
    assert changed != (PACKAGE / mutant.file).read_text("utf-8")


# With the one test that is known to kill each, so that no time is spent on the others.
CHEAP = {
    "a tie counts as beaten": f"{PROPERTY}|TestLocal and every_order",
    "nine tenths of eps": f"{NETWORKS}|TestDense and whole_ball",
    "row sums for column sums": f"{RULES}|TestLinear and singular_value",
    "dropped rounding term of Linear": f"{RULES}|TestLinear and rounding",
    "transposed pair in the query": f"{BACKENDS}|TestSolver and easy",
}


@pytest.mark.parametrize("name", list(CHEAP))
def test_a_cheap_mutant_is_killed(name):
    killer = run(replace(BY_NAME[name], suites=(CHEAP[name],)), 120.0).killer
    assert "::test_" in killer


def test_a_mutant_that_changes_nothing_survives(capsys, monkeypatch):
    """The runner can tell: a fault without effect is reported, with exit code 1."""
    idle = Mutant(
        "a word in a comment", "lipschitz/rules.py",
        "The rules of the layers that relaxcert knows.", "The rules of layers.",
        (f"{RULES}|TestReLU and registered",),
    )  # fmt: skip
    monkeypatch.setattr("tests.mutants.run.MUTANTS", (idle,))
    outcome = run(idle, 120.0)
    assert outcome.killer == ""
    assert "survives" in table([outcome])
    monkeypatch.setattr("tests.mutants.run.run", lambda mutant, limit: Outcome(mutant, "", 0.0))
    assert main([]) == 1
    assert "SURVIVES" in capsys.readouterr().out


def test_a_mutant_that_no_longer_fits_fails_loudly(capsys, monkeypatch):
    stale = replace(MUTANTS[0], old="text that is nowhere")
    with pytest.raises(StaleMutant, match="0 times"):
        mutated(stale, PACKAGE)
    monkeypatch.setattr("tests.mutants.run.MUTANTS", (stale,))
    assert main([]) == 2
    assert "0 times" in capsys.readouterr().err


def test_a_suite_that_is_red_already_kills_nothing(capsys, monkeypatch):
    monkeypatch.setattr("tests.mutants.run._killer", lambda *_: "tests/x.py::test_red")
    assert main(["--only", "a tie counts as beaten"]) == 2
    assert "tests/x.py::test_red fails without any fault" in capsys.readouterr().err
