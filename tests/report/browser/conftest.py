"""One browser for all tests of this folder, and the pages that they open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relaxcert.report.page import section, write_report
from relaxcert.report.run import read_run
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK
from tests.report.browser.chromium import Page, executable
from tests.report.synthetic import HOSTILE, prototypes, write_large, write_run

NAMES = [HOSTILE, "'\"><img src=x onerror=alert(1)>", "cotton crop", "grey soil", "damp grey soil",
         "a class with quite a long name that does not end"]  # fmt: skip


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Page]:
    program = executable()
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    page = Page(program, tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """Three runs of six classes with hostile names, with and without labels."""
    pytest.importorskip("matplotlib", reason="reports are an extra")
    pytest.importorskip("jinja2", reason="reports are an extra")
    folder = tmp_path_factory.mktemp("small")
    inputs, labels = prototypes(6, 300)
    sets = AffinitySets([[0, 1, 2, 3, 4], [5]], 6)
    kinds = {
        "local": (Local(eps="0.2"), labels),
        "rt3": (RelaxedTopK(3, eps="0.2"), labels),
        "<b>sets": (Affinity(sets, eps="0.2"), None),
    }
    sections = []
    for number, (name, (prop, known)) in enumerate(kinds.items()):
        write_run(folder / name, prop, inputs, known, NAMES, data="</style><script>x</script>")
        run = read_run(folder / name)
        sections.append(section(run, f"run{number}", inputs, why_no_inputs=""))
    return write_report(sections, folder / "report.html", title="Small <i>title</i>")


@pytest.fixture(scope="session")
def large(tmp_path_factory) -> Path:
    """10,000 points and 100 classes."""
    pytest.importorskip("matplotlib", reason="reports are an extra")
    pytest.importorskip("jinja2", reason="reports are an extra")
    folder = tmp_path_factory.mktemp("large")
    write_large(folder / "run")
    page = section(read_run(folder / "run"), "run0", None, why_no_inputs="not at hand")
    return write_report([page], folder / "report.html", title="Large")
