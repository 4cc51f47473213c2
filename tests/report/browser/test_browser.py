"""Pages in headless Chromium: quiet, sortable, in both themes, and no wider than the window."""

from __future__ import annotations

import pytest

from tests.report.synthetic import HOSTILE

COLUMN = """[...document.querySelectorAll('#run1-classes tbody tr')].map(
    row => row.cells[%d].dataset.value ?? row.cells[%d].textContent.trim())"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
@pytest.mark.parametrize("which", ["small", "large"])
def test_it_opens_without_complaint_and_fits(browser, request, which, width, theme):
    browser.open(request.getfixturevalue(which), width=width, theme=theme)
    assert browser.problems == []
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    inside = (
        "getComputedStyle(e.closest('.scroll,.picture') ?? document.body).overflowX != 'visible'"
    )
    wide = browser.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right >"
        f" innerWidth + 1 && !({inside})).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []


def test_an_overflow_would_be_noticed(browser, small):
    browser.open(small, width=375)
    browser.evaluate("document.querySelector('main p').style.minWidth = '600px'")
    assert browser.evaluate("document.documentElement.scrollWidth") > 375


def test_a_script_that_is_not_ours_is_refused_and_noticed(browser, small, tmp_path):
    """Even if something were not escaped, the page's policy would not run it."""
    page = tmp_path / "page.html"
    injected = "<script>document.title = 'changed'</script><img src='x' onerror='1'></main>"
    page.write_text(small.read_text("utf-8").replace("</main>", injected), "utf-8")
    browser.open(page)
    assert browser.evaluate("document.title").startswith("Small")
    assert any("Content Security Policy" in problem for problem in browser.problems)


def ground(browser) -> str:
    return browser.evaluate("getComputedStyle(document.querySelector('section')).backgroundColor")


def test_both_themes_and_the_toggle(browser, small):
    browser.open(small, theme="light")
    light = ground(browser)
    assert light == "rgb(255, 255, 255)"
    browser.prefer("dark")
    dark = ground(browser)
    assert dark == "rgb(20, 23, 28)"
    toggle = "document.querySelector('button.theme')"
    assert browser.evaluate(f"{toggle}.textContent") == "Light theme"
    browser.evaluate(f"{toggle}.click()")
    assert ground(browser) == light
    assert browser.evaluate(f"{toggle}.textContent") == "Dark theme"
    browser.evaluate(f"{toggle}.click()")
    assert ground(browser) == dark


@pytest.mark.parametrize("toggled", [False, True])
def test_printed_pages_are_light_whatever_is_on_the_screen(browser, small, toggled):
    browser.open(small, theme="light" if toggled else "dark")
    if toggled:
        browser.evaluate("document.querySelector('button.theme').click()")
    assert ground(browser) == "rgb(20, 23, 28)"
    browser.prefer("dark", media="print")
    assert ground(browser) == "rgb(255, 255, 255)"


def test_printed_tables_fit_on_a_page(browser, small):
    """A4 with margins of 14 mm is 688 CSS pixels wide."""
    browser.open(small)
    browser.resize(688)
    browser.prefer("light", media="print")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 688


def test_pictures_follow_the_theme(browser, small):
    colour = "getComputedStyle(document.querySelector('.picture text')).fill"
    browser.open(small, theme="light")
    light = browser.evaluate(colour)
    browser.prefer("dark")
    assert (light, browser.evaluate(colour)) == ("rgb(27, 31, 36)", "rgb(230, 232, 235)")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_writing_has_contrast(browser, small, theme):
    """4.5 is what WCAG asks; of every colour of writing on the ground of a section."""
    browser.open(small, theme=theme)
    lowest = browser.evaluate(
        """(() => {
          const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(v => {
            v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
          const ground = light(getComputedStyle(document.querySelector('section')).backgroundColor);
          return Math.min(...[...document.querySelectorAll('section *')].filter(
            e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())).map(e => {
            const one = light(getComputedStyle(e).color);
            return (Math.max(one, ground) + 0.05) / (Math.min(one, ground) + 0.05); })); })()"""
    )
    assert lowest > 4.5


def column(browser, number: int) -> list[str]:
    return browser.evaluate(COLUMN % (number, number))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_tables_sort_by_numbers_both_ways(browser, small, number):
    browser.open(small)
    before = column(browser, number)
    click = f"document.querySelectorAll('#run1-classes th button')[{number}].click()"
    browser.evaluate(click)
    falling = [float(value) for value in column(browser, number)]
    assert falling == sorted(map(float, before), reverse=True)
    browser.evaluate(click)
    assert [float(value) for value in column(browser, number)] == sorted(falling)
    sorted_by = "[...document.querySelectorAll('#run1-classes th[aria-sort]')].map(e => e.ariaSort)"
    assert browser.evaluate(sorted_by) == ["ascending"]
    names = browser.evaluate(COLUMN % (0, 0))
    assert sorted(names) != names or number == 0  # whole rows moved


def test_unknown_numbers_stay_last(browser, small):
    browser.open(small)
    cell = "document.querySelector('#run1-classes tbody tr').cells[2].dataset.value"
    browser.evaluate(f"{cell} = 'nan'")
    for _ in range(2):
        browser.evaluate("document.querySelectorAll('#run1-classes th button')[2].click()")
        assert column(browser, 2)[-1] == "nan"


def test_everything_is_reached_by_keyboard(browser, small):
    browser.open(small)
    reached = []
    for _ in range(80):
        browser.press("Tab")
        reached.append(
            browser.evaluate(
                "document.activeElement.className + document.activeElement.textContent"
            )
        )
    assert reached[0].startswith("skip")
    assert any(name.startswith("theme") for name in reached)
    assert "rejected" in reached


def test_a_table_is_sorted_by_keyboard(browser, small):
    browser.open(small)
    before = column(browser, 3)
    browser.evaluate("document.querySelectorAll('#run1-classes th button')[2].focus()")
    browser.press("Tab")
    browser.press("Enter")
    after = [float(value) for value in column(browser, 3)]
    assert after == sorted(map(float, before), reverse=True)


def test_hostile_names_are_shown_as_they_are(browser, small):
    browser.open(small)
    names = browser.evaluate(COLUMN % (0, 0))
    assert HOSTILE in names
    assert "'\"><img src=x onerror=alert(1)>" in names
    assert browser.evaluate("document.title") == "Small <i>title</i> – relaxcert report"  # noqa: RUF001
    assert browser.evaluate("document.querySelectorAll('script').length") == 1
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert HOSTILE in browser.evaluate(
        "[...document.querySelectorAll('.picture text')].map(e => e.textContent).join('')"
    )


def test_every_picture_has_words(browser, small):
    browser.open(small)
    silent = browser.evaluate(
        "[...document.querySelectorAll('svg, img')].filter(e => !(e.closest('[role=img]')"
        "?.getAttribute('aria-label') || e.alt || e.getAttribute('aria-label'))).length"
    )
    assert silent == 0
    assert browser.evaluate("document.querySelectorAll('[role=img]').length") > 10


@pytest.mark.parametrize("which", ["small", "large"])
def test_names_within_the_page_are_unique(browser, request, which):
    browser.open(request.getfixturevalue(which))
    names = browser.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(names) == len(set(names))
    dangling = browser.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"], use')].map(e => e.getAttribute('href'))"
        ".filter(href => !document.getElementById(href.slice(1)))"
    )
    assert dangling == []


@pytest.mark.parametrize("width", [1440])
def test_labels_of_large_maps_do_not_overlap_in_the_page(browser, large, width):
    """With the fonts of the browser and not those that matplotlib measured."""
    browser.open(large, width=width)
    overlaps = browser.evaluate(
        """(() => { let found = [];
          for (const svg of document.querySelectorAll('.picture.large svg')) {
            const boxes = [...svg.querySelectorAll('text')].filter(
              e => !/rotate\\(-?(?!0 )(?!-0 )[\\d.]+/.test(e.getAttribute('transform') ?? '')).map(
              e => [e.getBoundingClientRect(), e.textContent]);
            for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
              const [a, s] = boxes[i], [b, t] = boxes[j];
              const w = Math.min(a.right, b.right) - Math.max(a.left, b.left);
              const h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
              // Boxes of writing hold room above and below the letters.
              if (w > 1 && h > 0.45 * Math.min(a.height, b.height)) found.push([s, t]); } }
          return found; })()"""
    )
    assert overlaps == []
