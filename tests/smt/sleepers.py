"""Work for worker processes that takes next to nothing to import."""

from __future__ import annotations

import os
import signal
import time


def sit(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def die(_: float) -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0.0
