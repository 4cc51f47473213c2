"""The figures of docs/crosscheck.md: ``python -m tests.benchmarks.crosscheck_figures [PART ...]``.

Parts: certified, near, orders, bounds, acasxu, many. Times are CPU seconds of one core unless they
say wall. ``acasxu`` takes the folder of .nnet files from the variable ACASXU.
"""

from __future__ import annotations

import math
import os
import sys
import time
from fractions import Fraction
from pathlib import Path
from statistics import median

import torch

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.interop.nnet import read_nnet
from relaxcert.nn.networks import dense
from relaxcert.smt import Region, crosscheck, exact_network, judge
from relaxcert.smt.exactness import exact_radius, tightness
from relaxcert.smt.pieces import local_lipschitz
from relaxcert.spec import Affinity, AffinitySets, Ball, Local, Property, RelaxedTopK, Targeted
from relaxcert.spec.verdict import Answer
from relaxcert.training.loop import fit
from relaxcert.training.recipe import Optimisation
from relaxcert.training.schedules import Constant
from tests.smt.networks import regions

SMALL = [(2, 16, 16, 4), (5, 10, 10, 5), (5, 20, 20, 5)]
LARGER = [(5, 20, 20, 5), (5, 40, 40, 5), (5, 26, 26, 26, 5)]
ORDER = [3, 1, 0, 2, 4]


def network(widths: tuple[int, ...], activation: str, prop: Property) -> GloRoNet:
    torch.manual_seed(0)
    net = GloRoNet(dense(widths[0], widths[1:-1], widths[-1], activation=activation), prop)
    data = regions(widths[0], widths[-1], 2000, 1)
    recipe = Optimisation(epochs=40, batch_size=64, learning_rate=Constant(value=3e-3))
    fit(net, data, recipe, progress=False)
    return net


def name(widths: tuple[int, ...], activation: str, norm: str) -> str:
    return f"{'-'.join(map(str, widths))} {activation} {norm}"


def exact_points(points: torch.Tensor) -> list[tuple[Fraction, ...]]:
    return [tuple(map(Fraction, row)) for row in points.double().tolist()]


def certified() -> None:
    """200 points each: at eps, at the certified radius, at twice the certified radius."""
    print("network | at eps: both/violations/unknown | at radius | median s | max s | 2x unknown")
    for widths in SMALL:
        for activation in ("relu", "minmax"):
            for norm in ("l2", "linf"):
                net = network(widths, activation, RelaxedTopK(2, eps=0.1, norm=norm))
                points = regions(widths[0], widths[-1], 200, 7)[0]
                here = crosscheck(net, points).summary()
                edge = crosscheck(net, points, at_radius=True)
                at_edge = edge.summary()
                exact, unknown = exact_network(net.backbone, (widths[0],)), 0
                for record, point in zip(edge.records, exact_points(points), strict=True):
                    if record["eps"] is not None:
                        double = net.prop.with_eps(2 * Fraction(record["eps"]))
                        answer = judge(exact, point, double).verdict.answer
                        unknown += answer is Answer.UNKNOWN
                print(
                    f"{name(widths, activation, norm)} | {here['both_certify']}/"
                    f"{here['violations']}/{here['unknown']} | {at_edge['both_certify']}/"
                    f"{at_edge['violations']}/{at_edge['unknown']} | "
                    f"{at_edge['median_seconds']:.4f} | {at_edge['most_seconds']:.2f} | "
                    f"{unknown / len(points):.3f} (faults {here['faults']}, {at_edge['faults']})",
                    flush=True,
                )


def near() -> None:
    """Local at 0.99 of the refuted end of the exact radius, 10 points each."""
    print("network | points | decided | median s | max s | certified/exact, median")
    for widths in LARGER:
        for activation in ("relu", "minmax"):
            for norm in ("l2", "linf"):
                net = network(widths, activation, Local(eps=0.1, norm=norm))
                exact = exact_network(net.backbone, (widths[0],))
                points = regions(widths[0], widths[-1], 10, 7)[0]
                radii = net.certify(points).radius.tolist()
                seconds, ratios, decided = [], [], 0
                for point, start in zip(exact_points(points), radii, strict=True):
                    found = exact_radius(exact, point, net.prop, start=start, budget=60)
                    if not math.isfinite(found.refuted):
                        continue
                    judged = judge(exact, point, net.prop.with_eps(0.99 * found.refuted))
                    decided += judged.verdict.answer is not Answer.UNKNOWN
                    seconds.append(judged.seconds)
                    ratios.append(start / found.refuted)
                print(
                    f"{name(widths, activation, norm)} | {len(seconds)} | {decided} | "
                    f"{median(seconds):.3f} | {max(seconds):.2f} | {median(ratios):.3f}",
                    flush=True,
                )


def orders() -> None:
    """Relaxed top-2 on 60 points: head, exact uniform, exact pointwise; and exact radii."""
    print("eps | head uniform | exact uniform | head pointwise | exact pointwise")
    net = network((2, 16, 16, 4), "minmax", RelaxedTopK(2, eps=0.1))
    points = regions(2, 4, 60, 7)[0]
    exact = exact_network(net.backbone, (2,))
    for eps in (0.1, 0.2, 0.4):
        counts = []
        for order in ("uniform", "pointwise"):
            prop = RelaxedTopK(2, eps=eps, quantifier=order)
            counts.append(int(GloRoNet(net.backbone, prop).certify(points).certified.sum()))
            counts.append(
                sum(
                    judge(exact, point, prop).verdict.answer is Answer.CERTIFIED
                    for point in exact_points(points)
                )
            )
        print(f"{eps} | " + " | ".join(map(str, counts)), flush=True)
    tight = [t for t in tightness(net, points[:20]) if not math.isnan(t.ratio)]
    print(f"certified/exact radius, median of {len(tight)}: {median(t.ratio for t in tight):.3f}")


def bounds() -> None:
    """K_ji of the head over the exact local constant, worst pair, at 3 points each."""
    print("network | pieces | smallest and median K/exact | below exact | seconds")
    for widths in SMALL:
        for activation in ("relu", "minmax"):
            net = network(widths, activation, Local(eps=0.1))
            proved = net.verify().norms["l2"]
            exact = exact_network(net.backbone, (widths[0],))
            ratios, pieces, wrong, started = [], 0, 0, time.process_time()
            for point in exact_points(regions(widths[0], widths[-1], 3, 7)[0]):
                region = Region.around(point, Ball.of("1/2"))
                found = local_lipschitz(exact, region, "l2", budget=60)
                pieces += found.pieces
                for j, i in found.largest:
                    bound = proved.product * float(proved.pairs[j, i])
                    ratios.append(bound / found.value(j, i))
                    wrong += found.exceeds(j, i, bound)
            print(
                f"{name(widths, activation, 'l2')} | {pieces} | {min(ratios):.3f}, "
                f"{median(ratios):.3f} | {wrong} | {time.process_time() - started:.1f}",
                flush=True,
            )


def acasxu() -> None:
    """Adjacent affinity and Targeted on network 1_1 at 50 uniform points, linf."""
    print("property | eps | certified | falsified | unknown | median s | max s")
    folder = Path(os.environ["ACASXU"])
    read = read_nnet(folder / "ACASXU_run2a_1_1_batch_2000.nnet")
    exact = exact_network(read.network, (5,))
    low, high = read.normalise(torch.stack([read.minimum, read.maximum]))
    generator = torch.Generator().manual_seed(1)
    points = exact_points(low + (high - low) * torch.rand(50, 5, generator=generator).double())
    for eps in ("0.001", "0.002", "0.005", "0.01", "0.02"):
        for prop in (
            Affinity(AffinitySets.adjacent(ORDER), eps=eps, norm="linf"),
            Targeted.neighbours(ORDER, eps=eps, norm="linf"),
        ):
            found = [judge(exact, point, prop, budget=60) for point in points]
            answers = [judged.verdict.answer for judged in found]
            seconds = [judged.seconds for judged in found]
            counts = " | ".join(str(answers.count(answer)) for answer in Answer)
            print(
                f"{type(prop).__name__} | {eps} | {counts} | {median(seconds):.3f} | "
                f"{max(seconds):.2f}",
                flush=True,
            )


def many() -> None:
    """1,000 points of 5-20-20-5, adjacent affinity, l2, two processes."""
    prop = Affinity(AffinitySets.adjacent([0, 1, 2, 3, 4]), eps=0.05)
    net = network((5, 20, 20, 5), "minmax", prop)
    started = time.perf_counter()
    summary = crosscheck(net, regions(5, 5, 1000, 7)[0], jobs=2).summary()
    wall = time.perf_counter() - started
    print({key: value for key, value in summary.items() if key != "property"})
    print(f"{wall:.1f} s wall with two processes, starting them included")


if __name__ == "__main__":
    parts = {p.__name__: p for p in (certified, near, orders, bounds, acasxu, many)}
    for part in sys.argv[1:] or list(parts):
        print(f"\n## {part}: {parts[part].__doc__}")
        parts[part]()
