"""Here the shipped suites themselves are under test: fewer examples than a user's run takes."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("suites", settings.get_profile("default"), max_examples=40)


@pytest.fixture(autouse=True, scope="module")
def few_examples():
    kept = settings.get_current_profile_name()
    settings.load_profile("suites")
    yield
    settings.load_profile(kept)
