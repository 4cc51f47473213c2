"""Here the shipped suites themselves are under test: fewer examples than a user's run takes."""

from __future__ import annotations

import os

import pytest
from hypothesis import Phase, settings

# Under a seeded fault (tests/mutants) nobody reads the smallest example.
PHASES = [phase for phase in Phase if phase != Phase.shrink or "MUTANT" not in os.environ]
CI = {"derandomize": True} if os.environ.get("CI") else {}
settings.register_profile("suites", max_examples=40, deadline=None, phases=PHASES, **CI)


@pytest.fixture(autouse=True, scope="module")
def few_examples():
    kept = settings.get_current_profile_name()
    settings.load_profile("suites")
    yield
    settings.load_profile(kept)
