"""``relaxcert crosscheck --radii``: how near certified radii come to exact ones."""

from __future__ import annotations

import json as jsonlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import typer
from torch import Tensor

from relaxcert.cli.common import console, property_in_words, table
from relaxcert.errors import InvalidInput
from relaxcert.files import write_text
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.report.plots import exactness_scatter, new_figure, save
from relaxcert.report.verdicts import to_json
from relaxcert.smt.constants import Constants, constants
from relaxcert.smt.exactness import ExactRadius, Tightness, median_ratio, tightness
from relaxcert.spec.canonical import canonical_json
from relaxcert.training.progress import bar

REPORT = "exactness.json"


@dataclass(frozen=True)
class Wanted:
    """What ``--radii`` was asked for.

    Attributes:
        tolerance: relative width of the enclosures.
        budget: for each radius.
        solver, jobs: who works.
        compared: around so many points, the bounds of logit differences against exact constants.
        plot: file of the figure, if one is wanted.
        out: folder of the report, if one is wanted.
    """

    tolerance: float
    budget: str
    solver: str
    jobs: int
    compared: int
    plot: Path | None
    out: Path | None


def report_radii(net: GloRoNet, inputs: Tensor, wanted: Wanted, *, json: bool) -> int:
    """Measure, write and show; returns how many points contradict their certificates."""
    if wanted.plot is not None:
        new_figure(columns=1, width=1, height=1)  # complains before the work, not after it
    with bar() as progress:
        task = progress.add_task("exact radii", total=len(inputs))
        found = tightness(
            net,
            inputs,
            tolerance=wanted.tolerance,
            budget=wanted.budget,
            solver=wanted.solver,
            jobs=wanted.jobs,
            on_point=lambda: progress.advance(task),
        )
    compared = constants(net, inputs[: wanted.compared]) if wanted.compared else []
    report = _report(net, found, compared)
    if wanted.out is not None:
        write_text(wanted.out / REPORT, to_json(report, indent=2) + "\n")
    if wanted.plot is not None:
        _plot(net, found, wanted.plot)
    if json:
        typer.echo(to_json(report, indent=2))
    else:
        _show(net, report, wanted)
    return sum(one.unsound for one in found) + sum(len(one.wrong) for one in compared)


def _report(
    net: GloRoNet, found: Sequence[Tightness], compared: Sequence[Constants]
) -> dict[str, Any]:
    """Plain data: figures of the whole, then every point."""
    ratios = [one.ratio for one in found if not math.isnan(one.ratio)]
    gains = [
        one.pointwise.refuted / one.exact.refuted
        for one in found
        if one.pointwise is not None and one.pointwise.decided and not math.isnan(one.ratio)
    ]
    all_constants = [ratio for one in compared for ratio in one.ratios]
    return {
        "property": jsonlib.loads(canonical_json(net.prop)),
        "digest": net.digest,
        "norm": net.prop.balls[0].norm,
        "points": len(found),
        "decided": sum(one.exact.decided for one in found),
        "unsound": sum(one.unsound for one in found),
        "certified_over_exact": {
            "median": median_ratio(found),
            "smallest": min(ratios, default=math.nan),
            "largest": max(ratios, default=math.nan),
        },
        "pointwise_over_uniform_median": median(gains) if gains else None,
        "bound_over_local_constant": {
            "points": len(compared),
            "pieces": sum(one.pieces for one in compared),
            "complete": all(one.complete for one in compared),
            "smallest": min(all_constants, default=math.nan),
            "median": median(all_constants) if all_constants else math.nan,
            "too_small": sum(len(one.wrong) for one in compared),
        },
        "radii": [
            {
                "index": one.index,
                "certified": one.certified,
                "exact": _radius(one.exact),
                "pointwise": None if one.pointwise is None else _radius(one.pointwise),
                "ratio": one.ratio,
            }
            for one in found
        ],
    }


def _radius(radius: ExactRadius) -> dict[str, Any]:
    return {"proved": radius.proved, "refuted": radius.refuted, "reason": radius.reason}


def _plot(net: GloRoNet, found: Sequence[Tightness], path: Path) -> None:
    known = [one for one in found if not math.isnan(one.ratio)]
    if not known:
        raise InvalidInput("--plot has nothing to show: no exact radius was decided; use --budget.")
    figure, (ax,) = new_figure(columns=1, width=5, height=5)
    dots = {"uniform": ([one.exact.proved for one in known], [one.certified for one in known])}
    weaker = [(one, one.pointwise) for one in known if one.pointwise and one.pointwise.decided]
    if weaker:
        dots = {
            "exact: one k for the ball": dots["uniform"],
            "exact: a k for each x'": (
                [radius.proved for _, radius in weaker],
                [one.certified for one, _ in weaker],
            ),
        }
    else:
        dots = {f"{len(known)} points": dots["uniform"]}
    exactness_scatter(dots, ax=ax, unit=net.prop.balls[0].norm)
    save(figure, path)


def _show(net: GloRoNet, report: dict[str, Any], wanted: Wanted) -> None:
    screen = console()
    screen.print(property_in_words(net.prop), markup=False, soft_wrap=True)
    ratio = report["certified_over_exact"]
    columns = ("points", "decided", "certified/exact: median", "smallest", "largest", "unsound")
    cells = [
        *(str(report[key]) for key in ("points", "decided")),
        *(f"{ratio[key]:.3f}" for key in ("median", "smallest", "largest")),
        str(report["unsound"]),
    ]
    screen.print(table(f"Certified and exact radii ({report['norm']})", columns, [cells]))
    gain = report["pointwise_over_uniform_median"]
    if gain is not None:
        screen.print(f"exact radius with a k for each x' over that with one k: {gain:.3f} (median)")
    local = report["bound_over_local_constant"]
    if local["points"]:
        screen.print(
            f"bounds of logit differences over exact local constants around {local['points']} "
            f"points, {local['pieces']} linear pieces: smallest {local['smallest']:.3f}, median "
            f"{local['median']:.3f}" + ("" if local["complete"] else " (enumeration cut short)")
        )
    if wanted.out is not None:
        screen.print(f"every point in {wanted.out / REPORT}", markup=False)
    if wanted.plot is not None:
        screen.print(f"figure in {wanted.plot}", markup=False)
