"""What the documents say, done: code blocks, commands, doctests and example files."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import relaxcert
from relaxcert.cli import main
from relaxcert.spec import parse_document

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
SHELLS = ("console", "bash", "sh")
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


def blocks(path: Path, *languages: str) -> list[str]:
    return [
        body for language, body in FENCE.findall(path.read_text("utf-8")) if language in languages
    ]


def commands(block: str) -> list[str]:
    """The ``$ relaxcert`` lines of a block, but those that take long."""
    lines = block.replace("\\\n", " ").splitlines()
    found = [line.removeprefix("$").split("#")[0].strip() for line in lines]
    found = [line for line in found if line.startswith("relaxcert ")]
    return [line for line in found if "demo" not in line and "make" not in line]


def test_the_readme_has_code_and_commands():
    readme = ROOT / "README.md"
    assert blocks(readme, "python")
    assert commands("\n".join(blocks(readme, *SHELLS)))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_code_and_the_commands_of_a_document_run(path, tmp_path, monkeypatch, capsys):
    """In order, in one namespace and one empty folder: later ones use what earlier ones wrote."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("warnings.showwarning", None)  # main() replaces it; put it back after
    namespace: dict[str, object] = {"__name__": "document"}
    for number, (language, body) in enumerate(FENCE.findall(path.read_text("utf-8"))):
        if language == "python":
            # Without this file's own "from __future__ import annotations".
            code = compile(body, f"{path.name}, block {number}", "exec", dont_inherit=True)
            exec(code, namespace)
        if language in SHELLS:
            for command in commands(body):
                run_command(command, monkeypatch, capsys)


def run_command(command: str, monkeypatch, capsys) -> None:
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    status = 0
    try:
        main()
    except SystemExit as exit_:
        status = exit_.code
    captured = capsys.readouterr()
    assert not status, f"{command}: {captured.err}"
    assert captured.out.strip(), command


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_toml_of_a_document_that_is_a_property_is_valid(path):
    for block in blocks(path, "toml"):
        if block.lstrip().startswith("relaxcert"):
            parse_document(block).to_property()


def test_every_command_that_a_document_names_exists(capsys, monkeypatch):
    for path in DOCUMENTS:
        for name in set(re.findall(r"`relaxcert ([a-z]+)", path.read_text("utf-8"))):
            monkeypatch.setattr(sys, "argv", ["relaxcert", name, "--help"])
            with pytest.raises(SystemExit) as caught:
                main()
            assert not caught.value.code, name


def modules() -> list[str]:
    found = pkgutil.walk_packages(relaxcert.__path__, "relaxcert.")
    return ["relaxcert", *(module.name for module in found if "__main__" not in module.name)]


@pytest.mark.parametrize("name", modules())
def test_the_examples_in_docstrings_are_true(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for example in doctest.DocTestFinder().find(importlib.import_module(name)):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_without_a_word_of_complaint(path, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.strip()
