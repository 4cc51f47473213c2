"""Benchmarks run only on request: ``make bench``."""

import pytest


def pytest_collection_modifyitems(config, items):
    if config.getoption("benchmark_only", default=False):
        return
    skip = pytest.mark.skip(reason="speed is measured by `make bench`, not by the tests")
    for item in items:
        if "benchmarks" in item.path.parts:
            item.add_marker(skip)
