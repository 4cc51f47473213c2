"""The documentation site without mkdocs: pages, links, and the page of the command line."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import typer.main

from relaxcert.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")
MADE = {"cli.md"}  # when the site is built


def nav() -> set[str]:
    text = (ROOT / "mkdocs.yml").read_text("utf-8").split("\nnav:\n")[1]
    return set(re.findall(r": (\S+\.md)$", text, re.MULTILINE))


def cli_page() -> str:
    path = ROOT / "docs" / "site" / "cli_page.py"
    specification = importlib.util.spec_from_file_location("cli_page", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.cli_page()


def test_every_page_can_be_found_from_the_menu():
    assert nav() == {page.name for page in PAGES} | MADE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_that_exist(page):
    for target in LINK.findall(page.read_text("utf-8")):
        name = target.split("#")[0]
        if not name or name in MADE or "://" in target:
            continue
        # Only what lies in the folder is part of the site.
        assert not name.startswith(".."), f"{page.name}: {target}"
        assert (page.parent / name).is_file(), f"{page.name}: {target}"


def test_the_links_of_the_readme_lead_somewhere():
    for target in LINK.findall((ROOT / "README.md").read_text("utf-8")):
        assert "://" in target or (ROOT / target.split("#")[0]).exists(), target


def commands(group: object, path: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, command in getattr(group, "commands", {}).items():
        found[f"{path} {name}"] = command
        found |= commands(command, f"{path} {name}")
    return found


def test_the_page_of_the_command_line_has_every_command_and_option():
    page = cli_page()
    sections = dict(
        re.findall(r"^#+ (relaxcert [^\n]+)\n(.*?)(?=^#+ relaxcert|\Z)", page, re.M | re.S)
    )
    every = commands(typer.main.get_command(app), "relaxcert")
    assert set(sections) == set(every)
    for path, command in every.items():
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert option in sections[path], f"{path}: {option}"
    assert "[bold]" not in page
    assert "`relaxcert demo --seeds 3 --out three`" in page
