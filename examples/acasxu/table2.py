"""The paper's Table 2 and Appendix D, regenerated: data, training, certificates, attacks, solvers.

    python examples/acasxu/table2.py                    # as documented in docs/acasxu.md
    python examples/acasxu/table2.py --quick            # small and on the encounter table, a minute
    python examples/acasxu/table2.py --network NET.nnet --recipe acasxu-best --seeds 3

Labels come from a public ACAS Xu network if one is given (or lies in ../shared), and from the
encounter table that relaxcert solves itself otherwise. It is our reconstruction of Appendix D: the
paper states neither network nor distribution nor number of points. Times are CPU seconds of this
process, on one thread.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import against_solvers
import numpy as np
import torch
from torch import Tensor

from relaxcert import Affinity, GloRoNet, load_property
from relaxcert.attacks import attack
from relaxcert.cli.train import network_of
from relaxcert.data.acasxu import acasxu, closest_pair, labeller_of
from relaxcert.data.hcas import CLASS_NAMES, hcas, load_table
from relaxcert.data.landsat import Split
from relaxcert.data.rejection import Labeller
from relaxcert.files import write_text
from relaxcert.heads.certificates import Certificates, concatenate
from relaxcert.interop import read_nnet
from relaxcert.report.by_class import constant_answers, figures_by_class
from relaxcert.training import evaluate, fit, load_recipe

SHARED = Path(__file__).parents[3] / "shared/data/acasxu/ACASXU_run2a_1_1_batch_2000.nnet"
RECIPES = ("acasxu-fast", "acasxu-best", "acasxu-paper")
PAPER = {"vra": 0.749, "rejection_rate": 0.195, "clean_accuracy": 0.858}
SHOWN = ("vra", "rejection_rate", "clean_accuracy", "top1_accuracy")


@dataclass(frozen=True)
class Trained:
    """One network and what it took."""

    recipe: str
    seed: int
    net: GloRoNet
    cpu_seconds: float


def load_data(given: argparse.Namespace) -> tuple[str, dict[str, Split], Labeller]:
    """Where the labels come from, the labelled parts, and what labels any point."""
    sizes = (given.train, given.validation, given.test)
    if given.network is None:
        speeds = 1 if given.quick else 3
        advise = load_table(speeds=speeds).advisories
        return "encounter table (HorizontalCAS)", hcas(speeds=speeds, sizes=sizes), advise
    identity = hashlib.sha256(given.network.read_bytes()).hexdigest()
    network = read_nnet(given.network).network
    parts = acasxu(network, identity=identity, sizes=sizes)
    return given.network.stem, parts, labeller_of(network)


def labels_within_a_pair(advise: Labeller, inputs: Tensor, prop: Affinity, draws: int) -> float:
    """The share of points around which the labels themselves keep to one adjacent pair.

    An upper bound, as only so many random directions are tried. Where the labels do not keep to a
    pair, a certified network must be wrong somewhere in the ball.
    """
    centre = inputs.double().numpy()
    generator = np.random.default_rng(0)
    seen = 1 << advise(centre)
    for _ in range(draws):
        offset = generator.standard_normal(centre.shape)
        offset *= float(prop.ball.eps) / np.linalg.norm(offset, axis=1, keepdims=True)
        seen |= 1 << advise(centre + offset)
    sets = [sum(1 << label for label in members) for members in prop.sets.sets]
    return float(np.stack([(seen & ~members) == 0 for members in sets]).any(0).mean())


def train(recipe_name: str, parts: dict[str, Split], seed: int, given: Any) -> Trained:
    """One network of a recipe."""
    recipe = load_recipe(recipe_name)
    settings = recipe.optimisation
    if given.epochs is not None:
        settings = settings.model_copy(update={"epochs": given.epochs})
    data = parts["train"]
    if recipe_name == "acasxu-paper":
        rows = slice(given.paper_points)
        data = Split(data.inputs[rows], data.labels[rows], data.class_names)
    net = network_of(recipe, data, seed)
    started = time.process_time()
    fit(net, data, settings, seed=seed)
    return Trained(recipe_name, seed, net, time.process_time() - started)


def figures(trained: Trained, parts: dict[str, Split]) -> dict[str, Any]:
    """Balanced and uniform test figures, level R, with those of each advisory."""
    result: dict[str, Any] = {
        "recipe": trained.recipe,
        "seed": trained.seed,
        "training_cpu_seconds": trained.cpu_seconds,
    }
    for part in ("test", "uniform"):
        split = parts[part]
        found, certificates = evaluate(trained.net, split.inputs, split.labels)
        by_class = figures_by_class(certificates, split.labels, CLASS_NAMES)
        result[part] = {
            **found.as_dict(),
            "by_advisory": [row.__dict__ for row in by_class],
            "certified_sets": set_counts(certificates),
        }
    return result


def set_counts(certificates: Certificates) -> dict[str, int]:
    """How many points have which strictest certified set."""
    short = ("COC", "WL", "WR", "SL", "SR")
    counts: dict[str, int] = {}
    for row in certificates.strictest_sets.tolist():
        name = "+".join(short[label] for label, held in enumerate(row) if held) or "rejected"
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def both_properties(net: GloRoNet, inputs: Tensor) -> dict[str, int]:
    """Points certified for the paper's adjacent pairs and for DeepSafe's targeted safety."""
    affinity = GloRoNet(net.backbone, load_property("acasxu/adjacent-advisories")).certify(inputs)
    targeted = GloRoNet(net.backbone, load_property("acasxu/targeted-safe")).certify(inputs)
    return {
        "points": len(inputs),
        "adjacent_pairs": int(affinity.certified.sum()),
        "targeted_one_degree": int(targeted.certified.sum()),
        "adjacent_pairs_but_not_targeted": int((affinity.certified & ~targeted.certified).sum()),
    }


def one_batch(net: GloRoNet, inputs: Tensor, points: int) -> dict[str, float]:
    """Certify many points at once, bounds proved beforehand."""
    many = inputs.repeat(-(-points // len(inputs)), 1)[:points]
    net = GloRoNet(net.backbone, net.prop)  # nothing proved yet
    started = time.process_time()
    net.verify()
    bounds = time.process_time() - started
    started = time.process_time()
    certificates = net.certify(many)
    seconds = time.process_time() - started
    return {
        "points": len(certificates),
        "certified": int(certificates.certified.sum()),
        "bounds_cpu_seconds": bounds,
        "cpu_seconds": seconds,
        "microseconds_a_point": 1e6 * seconds / points,
    }


def attacks(net: GloRoNet, inputs: Tensor, *, steps: int, draws: int) -> dict[str, int]:
    """Margin PGD on every point, and random search on the sphere around certified ones."""
    certificates = concatenate([net.certify(batch) for batch in inputs.split(4096)])
    hit = torch.cat(
        [attack(net, batch, steps=steps, restarts=2).falsified for batch in inputs.split(4096)]
    )
    return {
        "points": len(inputs),
        "certified": int(certificates.certified.sum()),
        "certificates_broken_by_pgd": int((hit & certificates.certified).sum()),
        "rejections_proved_right_by_pgd": int((hit & ~certificates.certified).sum()),
        "random_draws_a_point": draws,
        "certificates_broken_by_random_search": random_search(net, inputs, certificates, draws),
    }


def random_search(net: GloRoNet, inputs: Tensor, certificates: Certificates, draws: int) -> int:
    """Certified points at which a certified set does not outscore the others somewhere."""
    exact = copy.deepcopy(net.backbone).double().eval()
    eps = float(net.prop.balls[0].eps)
    chosen = certificates.certified
    centre = inputs[chosen].double()
    broken = torch.zeros(len(centre), dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    for _ in range(draws):
        offset = torch.randn(centre.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            outputs = exact(centre + offset * (eps * (1 - 1e-9) / offset.norm(dim=1, keepdim=True)))
        for sets in (certificates.sets[chosen], certificates.strictest_sets[chosen]):
            inside = outputs.masked_fill(~sets, torch.inf).amin(1)
            broken |= inside <= outputs.masked_fill(sets, -torch.inf).amax(1)
    return int(broken.sum())


def summary(runs: list[dict[str, Any]], part: str) -> dict[str, str]:
    """Mean and deviation over seeds, as text."""
    cells: dict[str, str] = {}
    for name in SHOWN:
        values = [run[part][name] for run in runs]
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        cells[name] = f"{statistics.mean(values):.3f}{spread}"
    seconds = [run["training_cpu_seconds"] for run in runs]
    cells["training CPU s"] = f"{statistics.mean(seconds):.0f}"
    return cells


def print_tables(results: dict[str, Any]) -> None:
    """The tables of docs/acasxu.md."""
    head = ("VRA", "rejected", "affinity accuracy", "top-1", "training CPU s")
    for part in ("test", "uniform"):
        print(f"\n{'balanced' if part == 'test' else 'uniform'} | " + " | ".join(head))
        if part == "test":
            print("paper, Table 2 | " + " | ".join(f"{value:.3f}" for value in PAPER.values()))
        for answer, vra in results["constant_answers"][part].items():
            print(f"constant answer, {answer} | {vra:.3f} | 0.000 | | |")
        for recipe in dict.fromkeys(run["recipe"] for run in results["runs"]):
            runs = [run for run in results["runs"] if run["recipe"] == recipe]
            cells = summary(runs, part)
            print(f"{recipe}, {len(runs)} seeds | " + " | ".join(cells.values()))
    for run in results["runs"]:
        if run["seed"] == 0:
            print(
                f"\n{run['recipe']}, seed 0, by advisory (balanced): VRA, rejected, affinity, top-1"
            )
            for row in run["test"]["by_advisory"]:
                shares = ("vra", "rejection_rate", "clean_accuracy", "top1_accuracy")
                print(f"  {row['name']} | " + " | ".join(f"{row[share]:.3f}" for share in shares))
    rest = {key: value for key, value in results.items() if key != "runs"}
    print("\n" + json.dumps(rest, indent=2))


def arguments() -> argparse.Namespace:
    """The command line; --quick makes everything small."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", type=Path, help="a public .nnet network that gives the labels")
    parser.add_argument("--hcas", action="store_true", help="label by the encounter table")
    parser.add_argument("--quick", action="store_true", help="small, on the encounter table")
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="default: fast and best")
    parser.add_argument("--seeds", type=int, default=3, help="networks of each recipe")
    parser.add_argument("--epochs", type=int, help="instead of the recipes'")
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--validation", type=int, default=1000)
    parser.add_argument("--test", type=int, default=20_000)
    parser.add_argument("--paper-points", type=int, default=10_000, help="for acasxu-paper")
    parser.add_argument("--batch", type=int, default=65_536, help="points certified at once")
    parser.add_argument("--attack-steps", type=int, default=20)
    parser.add_argument("--draws", type=int, default=50, help="random points around each")
    parser.add_argument("--no-solvers", action="store_true")
    parser.add_argument("--solver-points", type=int, default=200, help="points for head and solver")
    parser.add_argument("--solver-budget", type=float, default=10.0, help="seconds a question")
    parser.add_argument("--out", type=Path, default=Path("table2.json"))
    given = parser.parse_args()
    if given.quick:
        given.train, given.test, given.batch = 2000, 500, 2048
        given.seeds, given.epochs, given.attack_steps, given.draws = 1, 2, 5, 5
        given.solver_points, given.solver_budget = 4, 2.0
        given.recipe = given.recipe or ["acasxu-fast"]
    if given.network is None and not (given.hcas or given.quick) and SHARED.is_file():
        given.network = SHARED
    return given


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    source, parts, advise = load_data(given)
    prop = load_property("acasxu/adjacent-advisories")
    if not isinstance(prop, Affinity):
        raise TypeError(f"{prop!r} is no affinity property.")
    results: dict[str, Any] = {
        "labels": source,
        "labels_within_a_pair": labels_within_a_pair(
            advise, parts["test"].inputs[:4000], prop, 3 * given.draws
        ),
        "class_counts": {n: p.labels.bincount(minlength=5).tolist() for n, p in parts.items()},
        "closest_pair": closest_pair(
            parts["train"].inputs[:10_000], parts["train"].labels[:10_000]
        ),
        "constant_answers": {
            part: constant_answers(parts[part].labels, prop, 5) for part in ("test", "uniform")
        },
        "runs": [],
    }
    for name in given.recipe or ["acasxu-fast", "acasxu-best"]:
        for seed in range(given.seeds):
            trained = train(name, parts, seed, given)
            results["runs"].append(figures(trained, parts))
            print(f"{name}, seed {seed}: {trained.cpu_seconds:.1f} CPU s", flush=True)
            if seed > 0:
                continue
            inputs = parts["test"].inputs
            results[name] = {
                "both_properties": both_properties(trained.net, inputs),
                "one_batch": one_batch(trained.net, inputs, given.batch),
                "attacks": attacks(
                    trained.net, inputs, steps=given.attack_steps, draws=given.draws
                ),
            }
            write_text(given.out, json.dumps(results, indent=2) + "\n")
    if not given.no_solvers:
        results["solvers"] = against_solvers.compare(
            parts,
            given.network,
            points=given.solver_points,
            budget=given.solver_budget,
            quick=given.quick,
        )
    write_text(given.out, json.dumps(results, indent=2) + "\n")
    print_tables(results)
    print(f"\nwritten to {given.out}")


if __name__ == "__main__":
    main()
