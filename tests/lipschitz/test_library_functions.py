"""The assumption of level D on torch's exp, expm1, tanh, erf and log1p, over all of float32.

Quick: every 2053rd number. ``RELAXCERT_LONG=1 pytest tests/lipschitz/test_library_functions.py``
takes every one of the 2^32, or every n-th with RELAXCERT_EVERY=n. The reference is the same
function in float64, of numpy and scipy (torch has its own), whose error is 2^29 times smaller.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import special
from torch import nn

from relaxcert.lipschitz.registry import Rounding, rule_for
from tests.long import long_search

_CHUNK = 2**20
_UNIT, _TINY = 2.0**-24, 2.0**-149
Array = np.ndarray


def _gelu_tanh(x: Array) -> Array:
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return x * special.expit(2 * inner)  # (1 + tanh y) / 2 without its cancellation


LAYERS: dict[str, tuple[nn.Module, Callable[[Array], Array]]] = {
    "tanh": (nn.Tanh(), np.tanh),
    "sigmoid": (nn.Sigmoid(), special.expit),
    "silu": (nn.SiLU(), lambda x: x * special.expit(x)),
    "gelu": (nn.GELU(), lambda x: x * special.ndtr(x)),
    "gelu tanh": (nn.GELU("tanh"), _gelu_tanh),
    "softplus": (nn.Softplus(), lambda x: np.logaddexp(0, x)),
    "softplus 3": (nn.Softplus(3), lambda x: np.logaddexp(0, 3 * x) / 3),
    "elu": (nn.ELU(), lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "elu -0.6": (nn.ELU(-0.6), lambda x: np.where(x > 0, x, -0.6 * np.expm1(np.minimum(x, 0)))),
    "softsign": (nn.Softsign(), lambda x: x / (1 + np.abs(x))),
}


def share_used(name: str, every: int) -> float:
    """The largest true error over the allowed one, of every n-th finite float32 number."""
    layer, function = LAYERS[name]
    known: Rounding = rule_for(layer, "").rounding(layer, "linf")
    worst = 0.0
    for start in range(0, 2**32, every * _CHUNK):
        patterns = np.arange(start, min(2**32, start + every * _CHUNK), every, dtype=np.uint32)
        points = patterns.view(np.float32)
        # Where a result overflows, level D refuses to say anything.
        points = points[np.abs(points) < 2.0**100]
        with torch.no_grad(), np.errstate(all="ignore"):
            found = layer(torch.from_numpy(points)).numpy().astype(np.float64)
            x = points.astype(np.float64)
            error = np.abs(found - function(x))
        allowed = known.input_gain * np.abs(x) + known.output_gain * np.abs(found)
        allowed = known.operations * (_UNIT * allowed + _TINY) + known.absolute
        assert not np.isnan(error).any()
        worst = max(worst, float((error / allowed).max(initial=0.0)))
    return worst


@pytest.mark.parametrize("name", LAYERS)
def test_library_functions_are_within_what_is_assumed(name):
    assert share_used(name, 2053) <= 1.0


@long_search
@pytest.mark.parametrize("name", LAYERS)
def test_library_functions_at_all_numbers(name):
    worst = share_used(name, int(os.environ.get("RELAXCERT_EVERY", "1")))
    print(f"{name}: {worst:.3f} of what is allowed")
    assert worst <= 1.0


def test_a_function_that_is_off_by_more_is_found(monkeypatch):
    """By 2^-17, twice what is allowed for tanh."""
    layer, function = LAYERS["tanh"]
    monkeypatch.setitem(LAYERS, "tanh", (layer, lambda x: function(x) * (1 + 2.0**-17)))
    assert share_used("tanh", 20011) > 1.0
