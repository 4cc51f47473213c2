"""Size and loading time of the report of 10,000 points and 100 classes.

python -m tests.report.browser.measure
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from relaxcert.report.page import section, write_report
from relaxcert.report.run import read_run
from tests.report.browser.chromium import Page, executable
from tests.report.synthetic import write_large

_TIMES = 7
_LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"


def _cpu_seconds(browser: Page) -> float:
    """CPU time of the process that shows the page: a busy machine does not lengthen it."""
    found = browser.send("Performance.getMetrics")["metrics"]
    return next(float(entry["value"]) for entry in found if entry["name"] == "ProcessTime")


def main() -> None:
    """Make the report, open it some times, print medians."""
    program = executable()
    if program is None:
        sys.exit("Chromium is not installed (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_large(folder / "run")
        started = time.process_time()
        page = section(read_run(folder / "run"), "run0", None)
        path = write_report([page], folder / "report.html", title="Large")
        print(f"made in {time.process_time() - started:.1f} s of CPU time", end=", ")
        print(f"{path.stat().st_size / 1e6:.2f} MB")
        browser = Page(program, folder / "profile")
        try:
            loaded, painted, worked = [], [], []
            browser.send("Performance.enable")
            for _ in range(_TIMES):
                before = _cpu_seconds(browser)
                browser.open(path)
                worked.append(1e3 * (_cpu_seconds(browser) - before))
                loaded.append(float(browser.evaluate(_LOADED)))
                painted.append(float(browser.evaluate(_PAINTED)))
            version = browser.evaluate("navigator.userAgent").rpartition("Chrome/")[2].split()[0]
        finally:
            browser.close()
    print(
        f"Chromium {version}, {_TIMES} times: loaded after {median(loaded):.0f} ms (at most "
        f"{max(loaded):.0f}), first paint after {median(painted):.0f} ms (at most "
        f"{max(painted):.0f}); CPU time of the page's process {median(worked):.0f} ms"
    )


if __name__ == "__main__":
    main()
