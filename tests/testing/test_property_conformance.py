"""Every built-in kind of property passes the suite."""

from __future__ import annotations

from relaxcert.spec import Affinity, AffinitySets, Ball, Local, RelaxedTopK, Targeted, TopK
from relaxcert.spec.reference import top_set
from relaxcert.testing import PropertyConformance


class TestLocal(PropertyConformance):
    property_under_test = Local(eps="0.1", norm="linf")


class TestTopK(PropertyConformance):
    property_under_test = TopK(2, eps="1/3")


class TestRelaxedTopK(PropertyConformance):
    property_under_test = RelaxedTopK(2, eps="0.1", norm="l1")

    def reference(self, centre, logits_in):
        """Section 3 in other words: of the top set and the top pair, one never changes."""
        points = list(logits_in(Ball.of("0.1", "l1")))
        return any(
            len(top_set(centre, k)) == k
            and all(top_set(p, k) == top_set(centre, k) for p in points)
            for k in (1, 2)
        )


class TestPointwiseRelaxedTopK(PropertyConformance):
    property_under_test = RelaxedTopK(3, eps="0.1", quantifier="pointwise")


class TestAffinity(PropertyConformance):
    property_under_test = Affinity(AffinitySets.adjacent([3, 1, 0, 2]), eps="0.1")


class TestTargeted(PropertyConformance):
    property_under_test = Targeted.neighbours([0, 2, 1, 3], eps="0.1")


class TestComposition(PropertyConformance):
    property_under_test = (
        Local(eps="0.05") & Targeted.neighbours([0, 1, 2, 3], eps="0.1", norm="linf")
    ) | TopK(2, eps="0.1")
