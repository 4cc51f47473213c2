"""One thread, and hypothesis without deadlines; in CI the same examples each time."""

from __future__ import annotations

import os

import torch
from hypothesis import settings

# Where relaxcert is installed its entry point names the same plugin, which is then loaded once.
pytest_plugins = ["relaxcert.testing.plugin"]

torch.set_num_threads(1)

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
