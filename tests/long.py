"""Searches of many minutes: not part of the suite, run by ``RELAXCERT_LONG=1 pytest ...``."""

from __future__ import annotations

import os

import pytest

long_search = pytest.mark.skipif(
    not os.environ.get("RELAXCERT_LONG"), reason="a long search: set RELAXCERT_LONG=1"
)
