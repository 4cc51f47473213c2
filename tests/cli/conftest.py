"""What every test of the command line needs: ``run``."""

from __future__ import annotations

import sys

import pytest

from relaxcert.cli import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process: status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["relaxcert", *map(str, arguments)])
        monkeypatch.setattr("warnings.showwarning", None)  # main() replaces it; put it back after
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
