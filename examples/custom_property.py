"""A property of one's own: the top *pair* or the top *triple* must be unchanged, nothing else.

A prefix property says which prefix lengths may serve. The head, the certificate and the attack
follow from that, and so does a conformance suite: run ``pytest examples/custom_property.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from relaxcert import GloRoNet
from relaxcert.attacks import attack
from relaxcert.nn import dense
from relaxcert.spec import Ball, PrefixProperty
from relaxcert.spec.reference import LogitsIn, top_set
from relaxcert.testing import PropertyConformance


@dataclass(frozen=True)
class PairOrTriple(PrefixProperty):
    """Top-2 or top-3 robustness, whichever holds: a shortlist of two or three."""

    ball: Ball

    def lengths(self) -> Sequence[int]:
        return (2, 3)


class TestPairOrTriple(PropertyConformance):
    property_under_test = PairOrTriple(Ball.of("0.1"))

    def reference(self, centre: Sequence[Fraction], logits_in: LogitsIn) -> bool:
        """The same in other words: one of the two sets is the same at every point."""
        points = list(logits_in(Ball.of("0.1")))
        shortlists = [top_set(centre, k) for k in (2, 3) if len(top_set(centre, k)) == k]
        return any(all(top_set(p, len(s)) == s for p in points) for s in shortlists)


def main() -> None:
    torch.manual_seed(0)
    net = GloRoNet(dense(8, [16, 16], 5), PairOrTriple(Ball.of("0.1")))
    points = torch.rand(200, 8)
    certificates = net.certify(points)
    hit = attack(net, points)
    print(f"certified {int(certificates.certified.sum())} of {len(points)} points")
    print(f"prefix lengths used: {sorted(set(certificates.k.tolist()))}")
    broken = int((hit.falsified & certificates.certified).sum())
    print(f"certificates that an attack broke: {broken}")


if __name__ == "__main__":
    main()
