"""The ten ACAS Xu properties as VNN-LIB 1.0 texts of their usual shapes.

Facts: Katz et al., Reluplex (CAV 2017), appendix; scores, of which the *smallest* is advised, in
the order COC, WL, WR, SL, SR; inputs rho, theta, psi, v_own, v_int, normalised as (x - mean) /
range. Each file states the violation, as everywhere in VNN-LIB. ``violated`` says the same on
scores in Python, so that a reader can be judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import pi

MEAN = (19791.091, 0.0, 0.0, 650.0, 600.0)
RANGE = (60261.0, 2 * pi, 2 * pi, 1100.0, 1200.0)
LOW, HIGH = (0.0, -pi, -pi, 100.0, 0.0), (60760.0, pi, pi, 1200.0, 1200.0)
COC, WL, WR, SL, SR = range(5)
COC_1500 = Fraction("3.991125645861615")  # a score of 1500, normalised

Scores = Sequence[Fraction]
Sides = dict[int, tuple[float, float]]


@dataclass(frozen=True)
class Known:
    """One property: boxes (sides that are not listed are the whole range), text and truth."""

    boxes: tuple[Sides, ...]
    output: str
    violated: Callable[[Scores], bool]

    def box(self, which: int) -> list[tuple[Decimal, Decimal]]:
        sides = [self.boxes[which].get(i, (LOW[i], HIGH[i])) for i in range(5)]
        return [
            tuple(normalised(value, place) for value in side) for place, side in enumerate(sides)
        ]

    def text(self) -> str:
        declared = [f"(declare-const X_{i} Real)" for i in range(5)]
        declared += [f"(declare-const Y_{j} Real)" for j in range(5)]
        return "\n".join([*declared, "", *self._inputs(), "", self.output, ""])

    def _inputs(self) -> list[str]:
        boxes = [
            [
                bound
                for i, (low, high) in enumerate(self.box(which))
                for bound in (f"(<= X_{i} {high:f})", f"(>= X_{i} {low:f})")
            ]
            for which in range(len(self.boxes))
        ]
        if len(boxes) == 1:
            return [f"(assert {bound})" for bound in boxes[0]]
        return ["(assert (or", *(f"  (and {' '.join(box)})" for box in boxes), "))"]


def normalised(value: float, place: int) -> Decimal:
    """Nine decimals, as the published files have."""
    scaled = (Decimal(value) - Decimal(MEAN[place])) / Decimal(RANGE[place])
    return round(scaled, 9)


def among_smallest(scores: Scores, label: int, others: Sequence[int]) -> bool:
    return all(scores[label] <= scores[other] for other in others)


def each(*atoms: str) -> str:
    return "\n".join(f"(assert {atom})" for atom in atoms)


def either(*conjunctions: Sequence[str]) -> str:
    parts = (f"  (and {' '.join(atoms)})" for atoms in conjunctions)
    return "\n".join(["(assert (or", *parts, "))"])


def not_smallest(label: int) -> str:
    return either(*([f"(<= Y_{other} Y_{label})"] for other in range(5) if other != label))


def others(label: int) -> list[int]:
    return [other for other in range(5) if other != label]


def beaten(label: int) -> Callable[[Scores], bool]:
    return lambda y: any(y[other] <= y[label] for other in others(label))


HEAD_ON = {0: (1500.0, 1800.0), 1: (-0.06, 0.06)}
SLOW_PSI = (-pi, -pi + 0.005)
PROPERTIES = {
    1: Known(
        ({0: (55947.691, 60760.0), 3: (1145.0, 1200.0), 4: (0.0, 60.0)},),
        each("(>= Y_0 3.991125645861615)"),
        lambda y: y[COC] >= COC_1500,
    ),
    2: Known(
        ({0: (55947.691, 60760.0), 3: (1145.0, 1200.0), 4: (0.0, 60.0)},),
        each(*(f"(<= Y_{j} Y_0)" for j in (1, 2, 3, 4))),
        lambda y: all(y[j] <= y[COC] for j in (1, 2, 3, 4)),
    ),
    3: Known(
        ({**HEAD_ON, 2: (3.10, pi), 3: (980.0, 1200.0), 4: (960.0, 1200.0)},),
        each(*(f"(<= Y_0 Y_{j})" for j in (1, 2, 3, 4))),
        lambda y: among_smallest(y, COC, others(COC)),
    ),
    4: Known(
        ({**HEAD_ON, 2: (0.0, 0.0), 3: (1000.0, 1200.0), 4: (700.0, 800.0)},),
        each(*(f"(<= Y_0 Y_{j})" for j in (1, 2, 3, 4))),
        lambda y: among_smallest(y, COC, others(COC)),
    ),
    5: Known(
        ({0: (250.0, 400.0), 1: (0.2, 0.4), 2: SLOW_PSI, 3: (100.0, 400.0), 4: (0.0, 400.0)},),
        not_smallest(SR),
        beaten(SR),
    ),
    6: Known(
        (
            {0: (12000.0, 62000.0), 1: (0.7, pi), 2: SLOW_PSI},
            {0: (12000.0, 62000.0), 1: (-pi, -0.7), 2: SLOW_PSI},
        ),
        not_smallest(COC),
        beaten(COC),
    ),
    7: Known(
        ({},),
        either(
            [f"(<= Y_3 Y_{j})" for j in (0, 1, 2)],
            [f"(<= Y_4 Y_{j})" for j in (0, 1, 2)],
        ),
        lambda y: any(among_smallest(y, strong, (0, 1, 2)) for strong in (SL, SR)),
    ),
    8: Known(
        ({1: (-pi, -0.75 * pi), 2: (-0.1, 0.1), 3: (600.0, 1200.0), 4: (600.0, 1200.0)},),
        either(*([f"(<= Y_{i} Y_{j})" for j in (0, 1)] for i in (2, 3, 4))),
        lambda y: any(among_smallest(y, other, (COC, WL)) for other in (WR, SL, SR)),
    ),
    9: Known(
        (
            {
                0: (2000.0, 7000.0),
                1: (-0.4, -0.14),
                2: (-pi, -pi + 0.01),
                3: (100.0, 150.0),
                4: (0.0, 150.0),
            },
        ),
        not_smallest(SL),
        beaten(SL),
    ),
    10: Known(
        (
            {
                0: (36000.0, 60760.0),
                1: (0.7, pi),
                2: (-pi, -pi + 0.01),
                3: (900.0, 1200.0),
                4: (600.0, 1200.0),
            },
        ),
        not_smallest(COC),
        beaten(COC),
    ),
}
