"""Two admissible k that both run out of time: UNKNOWN with a reason, not an error."""

from __future__ import annotations

import sys
from fractions import Fraction

from relaxcert.smt import exact_network, judge
from relaxcert.spec import RelaxedTopK
from relaxcert.spec.verdict import Answer, unknown
from tests.networks import random_backbone


def test_the_first_reason_is_given(monkeypatch):
    reasons = iter(["first", "second"])
    module = sys.modules["relaxcert.smt.judge"]  # the package's name of it is the function
    monkeypatch.setattr(module, "decide", lambda *arguments, **options: unknown(next(reasons)))
    network = exact_network(random_backbone(0), (4,))
    verdict = judge(network, [Fraction(0)] * 4, RelaxedTopK(2, eps=1)).verdict
    assert verdict.answer is Answer.UNKNOWN
    assert verdict.reason == "first"
    assert next(reasons, None) is None
