"""The page as a file: complete by itself, small, the same each time, and nothing in it runs."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape

import pytest
import torch

pytest.importorskip("matplotlib", reason="reports are an extra")
pytest.importorskip("jinja2", reason="reports are an extra")

from relaxcert.report.examples import groups_of
from relaxcert.report.page import section, write_report
from relaxcert.report.run import read_run
from relaxcert.report.svg import picture
from relaxcert.spec import Local, RelaxedTopK, Targeted
from tests.report.synthetic import HOSTILE, prototypes, write_large, write_run

NAMES = [HOSTILE, "$x$ & $", "a < b", "grey soil", "damp grey soil", "中文 class"]
PROP = RelaxedTopK(3, eps="0.2")


def page_of(folder, prop=PROP, *, labelled=True, inputs=None, **more) -> str:
    points, labels = prototypes(6, 200)
    labels[::9] = 3  # some are wrong
    write_run(folder / "run", prop, points, labels if labelled else None, NAMES, **more)
    shown = points if inputs is None else inputs
    part = section(read_run(folder / "run"), "run0", shown)
    return write_report([part], folder / "report.html", title="Title").read_text("utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return page_of(tmp_path_factory.mktemp("page"), command=f"relaxcert certify '{HOSTILE}'")


def test_a_report_of_10000_points_and_100_classes_is_less_than_3_megabytes(tmp_path):
    write_large(tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert (len(run), len(run.class_names)) == (10_000, 100)
    path = write_report([section(run, "run0", None)], tmp_path / "report.html", title="Large")
    assert 100_000 < path.stat().st_size < 3_000_000


def test_nothing_is_loaded_from_anywhere(page):
    places = re.findall(r'(?:src|href|action|poster|data)="([^"]*)"', page)
    places += re.findall(r"url\(([^)]*)\)", page)
    assert len(places) > 20
    assert [
        place for place in places if not place.startswith(("#", "data:image/png;base64,"))
    ] == []
    assert "@import" not in page
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", page).replace('http-equiv="Content', "")


def test_only_the_script_that_ships_may_run(page):
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    wanted = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert f"script-src 'sha256-{wanted}'" in policy
    assert "default-src 'none'" in policy
    assert not re.findall(r"\son\w+=", re.sub(r"&[^;]*;", "", re.sub(r">[^<]*<", "><", page)))


def test_names_and_paths_are_escaped(page):
    assert HOSTILE not in page
    assert page.count(HOSTILE.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;")) > 3
    assert "$x$ &amp; $" in page
    assert "中文 class" in page


def test_it_says_what_the_verdict_files_say(page, tmp_path):
    words = unescape(re.sub(r"<[^>]+>", " ", page))
    points, labels = prototypes(6, 200)
    labels[::9] = 3
    write_run(tmp_path, PROP, points, labels, NAMES)
    run = read_run(tmp_path)
    summary = run.summary
    for text in (
        "Relaxed top-3 robustness",
        summary.digest,
        summary.weights_sha256,
        f"{100 * summary.figures.vra:.1f} %",
        f"{100 * summary.rejection_rate:.1f} %",
        f"{summary.certified} of 200 points are certified",
        summary.data_sha256,
        summary.versions["torch"],
        "level R",
        "conventional sums",
        f"relaxcert certify '{HOSTILE}'",
    ):
        assert text.replace("\u00a0", " ") in words.replace("\u00a0", " "), text
    for row in summary.bounds:
        assert f"{row.bound:.9g}" in words


def test_the_same_files_give_the_same_page(tmp_path):
    points, labels = prototypes(6, 100)
    write_run(tmp_path / "run", PROP, points, labels, NAMES)
    run = read_run(tmp_path / "run")
    paths = [
        write_report([section(run, "run0", points)], tmp_path / name, title="Same")
        for name in ("one.html", "two.html")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_kinds_without_sets_or_labels_have_pages_too(tmp_path):
    allowed = [[0, 1], [0, 1], [2], [3, 4], [3, 4], [5]]
    for number, prop in enumerate(
        (
            Targeted(allowed, eps="0.2"),
            RelaxedTopK(2, eps="0.2", quantifier="pointwise"),
            Local(eps="0.2") & Local(eps="0.01", norm="linf"),
        )
    ):
        (tmp_path / str(number)).mkdir()
        text = page_of(tmp_path / str(number), prop, labelled=number != 1)
        assert "</html>" in text
    assert "different norms" in text


def test_points_worth_a_look_are_those_on_the_edge(tmp_path):
    points, labels = prototypes(6, 200)
    labels[::9] = 3
    write_run(tmp_path, PROP, points, labels, NAMES)
    run = read_run(tmp_path)
    certified, rejected, surprising = groups_of(run, points, each=5)
    assert [e.index for e in certified.examples] == sorted(
        torch.nonzero(run.certified).flatten().tolist(), key=lambda i: float(run.radius[i])
    )[:5]
    assert [e.index for e in rejected.examples] == sorted(
        torch.nonzero(~run.certified).flatten().tolist(), key=lambda i: -float(run.radius[i])
    )[:5]
    assert surprising.examples
    for example in surprising.examples:
        assert example.certified
        assert example.label not in example.members


def test_images_and_bars_and_numbers_of_points(tmp_path):
    points, _ = prototypes(6, 200)
    assert "<img" not in page_of(tmp_path / "a")
    images = points.reshape(200, 1, 2, 3)
    assert '<img src="data:image/png;base64,' in page_of(tmp_path / "b", inputs=images)
    assert "x = (" in page_of(tmp_path / "c")
    wide = torch.cat([points] * 6, dim=1)
    assert "36 features of this point" in page_of(tmp_path / "d", inputs=wide)


def test_pictures_hold_no_colour_that_a_theme_must_change():
    made = picture(lambda ax: ax.set_title("<b>$1 & $2</b>"), key="k", alt="words")
    assert "&lt;b&gt;$1 &amp; $2&lt;/b&gt;" in made.svg
    assert "currentColor" in made.svg
    assert not re.findall(r"#(?:000000|ffffff|010203|fefdfc)", made.svg)
