"""Head and solver side by side: the same points, the same property, verdicts, times, radii.

On small networks, trained like the large ones, z3 (with branch and bound over the ball) decides
nearly every point exactly. The head takes microseconds and refuses some points that the solver
certifies; it never certifies one that the solver refutes. On an original ACAS Xu network, which was
not trained for a small Lipschitz constant, the head's bound says nothing.
"""

from __future__ import annotations

import statistics
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relaxcert import GloRoNet, load_property
from relaxcert.data.landsat import Split
from relaxcert.interop import read_nnet
from relaxcert.nn import dense
from relaxcert.smt import exact_network, judge
from relaxcert.spec import Property
from relaxcert.training import fit, load_recipe
from relaxcert.training.evaluation import figures_of

SMALL = ((20, 20), (32, 32))
BISECTIONS = 5


def compare(
    parts: dict[str, Split], network: Path | None, *, points: int, budget: float, quick: bool
) -> dict[str, Any]:
    """Both small networks, and the original one if there is a file of it.

    ``budget`` is in seconds, for one point and one radius.
    """
    result: dict[str, Any] = {}
    for hidden in SMALL[:1] if quick else SMALL:
        name = "-".join(map(str, (parts["train"].inputs.shape[1], *hidden, 5)))
        result[name] = on_small_network(parts, list(hidden), points, budget, quick=quick)
        print(f"{name}: {result[name]}", flush=True)
    if network is not None:
        result[network.stem] = on_original(network, parts["test"].inputs[: points // 4], budget)
        print(f"{network.stem}: {result[network.stem]}", flush=True)
    return result


def on_small_network(
    parts: dict[str, Split], hidden: list[int], points: int, budget: float, *, quick: bool
) -> dict[str, Any]:
    """Train, then decide the same points with head and solver."""
    recipe = load_recipe("acasxu-fast")
    settings = recipe.optimisation.model_copy(update={"epochs": 2} if quick else {})
    torch.manual_seed(0)
    prop = load_property(recipe.property)
    net = GloRoNet(dense(parts["train"].inputs.shape[1], hidden, 5), prop)
    fit(net, parts["train"], settings, seed=0)
    return side_by_side(net, parts["test"], points, budget)


def side_by_side(net: GloRoNet, split: Split, points: int, budget: float) -> dict[str, Any]:
    """Verdicts, time a point, and the ratio of radii where both certify.

    The head certifies all points of the split in one batch, the solver the first ``points``.

    Raises:
        RuntimeError: the head certified a point that the solver refuted.
    """
    net.certify(split.inputs[:1])
    started = time.process_time()
    certificates = net.certify(split.inputs)
    head_seconds = (time.process_time() - started) / len(split)
    figures = figures_of(certificates, split.labels)
    inputs = split.inputs[:points]
    exact = exact_network(net.backbone, inputs.shape[1:])
    counts = {"certified": 0, "falsified": 0, "unknown": 0}
    by_head = dict.fromkeys(counts, 0)
    seconds: list[float] = []
    ratios: list[float] = []
    for row, point in enumerate(exact_points(inputs)):
        started = time.process_time()
        answer = judge(exact, point, net.prop, budget=budget).verdict.answer.value
        seconds.append(time.process_time() - started)
        counts[answer] += 1
        if not bool(certificates.certified[row]):
            continue
        by_head[answer] += 1
        if answer == "certified" and len(ratios) < 20:
            radius = float(certificates.radius[row])
            ratios.append(radius / largest_radius(exact, point, net.prop, radius, budget))
    if by_head["falsified"]:
        raise RuntimeError("the head certified a point that the solver refuted: a soundness bug.")
    return {
        "vra": figures.vra,
        "rejection_rate": figures.rejection_rate,
        "points": len(inputs),
        "head": {"certified": sum(by_head.values()), "rejected": points - sum(by_head.values())},
        "solver": counts,
        "of the head's certificates": by_head,
        "head_seconds_a_point": head_seconds,
        "solver_seconds_a_point": statistics.mean(seconds),
        "solver_slowest": max(seconds),
        "times_faster": statistics.mean(seconds) / head_seconds,
        "radius_head_over_solver_median": statistics.median(ratios) if ratios else None,
    }


def exact_points(inputs: Tensor) -> list[tuple[Fraction, ...]]:
    """Rows of numbers as exact fractions."""
    return [tuple(map(Fraction, row)) for row in inputs.double().tolist()]


def largest_radius(
    exact: Any, point: tuple[Fraction, ...], prop: Property, certified: float, budget: float
) -> float:
    """The largest radius that the solver certifies, by bisection from the head's; within 5 %."""
    low, high = certified, certified
    while high < 64 * certified:
        high *= 2
        if not solver_certifies(exact, point, prop, high, budget):
            break
        low = high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if solver_certifies(exact, point, prop, middle, budget):
            low = middle
        else:
            high = middle
    return low


def solver_certifies(
    exact: Any, point: tuple[Fraction, ...], prop: Property, eps: float, budget: float
) -> bool:
    """Whether the solver proves the property for a ball of this radius."""
    verdict = judge(exact, point, prop.with_eps(Fraction(eps)), budget=budget).verdict
    return verdict.answer.value == "certified"


def on_original(path: Path, inputs: Tensor, budget: float) -> dict[str, Any]:
    """The product bound of an original network, and the solver at small eps."""
    network = read_nnet(path).network
    prop = load_property("acasxu/adjacent-advisories")
    net = GloRoNet(network, prop)
    certificates = net.certify(inputs)
    exact = exact_network(network, inputs.shape[1:])
    result: dict[str, Any] = {
        "product of the spectral norms before the last layer": net.verify().norms["l2"].product,
        "head certifies at 0.01": int(certificates.certified.sum()),
        "largest radius of the head": float(certificates.radius.max()),
    }
    for eps in ("0.0001", "0.001", "0.01"):
        counts = {"certified": 0, "falsified": 0, "unknown": 0}
        started = time.process_time()
        for point in exact_points(inputs):
            verdict = judge(exact, point, prop.with_eps(eps), budget=budget).verdict
            counts[verdict.answer.value] += 1
        seconds = (time.process_time() - started) / len(inputs)
        result[f"solver at {eps}"] = {**counts, "seconds_a_point": seconds}
    return result
