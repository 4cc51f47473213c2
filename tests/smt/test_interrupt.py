"""Ctrl-C while z3 is at work: it stops and is raised, where z3 by itself would answer unknown."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest

from relaxcert.smt.solver import Script
from relaxcert.smt.z3_solver import Z3Solver


def hard_script() -> Script:
    """A system of integer equations and cubes that z3 does not solve in seconds."""
    draw = random.Random(1)
    names = [f"x{index}" for index in range(40)]
    lines = [f"(declare-const {name} Int)" for name in names]
    for _ in range(60):
        terms = " ".join(f"(* (- {draw.randint(1, 50)}) {name})" for name in names[::2])
        more = " ".join(f"(* {draw.randint(1, 50)} {name})" for name in names[1::2])
        lines.append(f"(assert (= (+ {terms} {more}) {draw.randint(1, 10**6)}))")
    lines += [
        f"(assert (and (> {name} 0) (< (* {name} {name} {name}) 1000000000)))" for name in names
    ]
    return Script("\n".join(lines), ())


@pytest.fixture
def heard():
    """Ctrl-C raises also where the tests are a shell's background job, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_stops_the_solver_and_is_raised():
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Z3Solver().check(hard_script(), seconds=60, rlimit=2**32 - 1)
    # The budget has not run out: z3 was really stopped.
    assert time.monotonic() - started < 50
