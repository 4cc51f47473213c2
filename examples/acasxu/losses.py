"""The losses of docs/acasxu.md side by side: 3 x 128, validation part, level R.

    python examples/acasxu/losses.py                    # four networks, a minute of CPU time
    python examples/acasxu/losses.py --quick            # in small, on the encounter table

Everything but loss, temperature, ranking weight and epochs is that of the recipe ``acasxu-fast``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from table2 import SHARED, SHOWN, load_data

from relaxcert.cli.train import network_of
from relaxcert.files import write_text
from relaxcert.training import evaluate, fit, load_recipe

# Each with the number of epochs that it takes to come to rest at this learning rate.
LOSSES: tuple[dict[str, Any], ...] = (
    {"loss": "cross-entropy", "temperature": 0.25, "ranking_weight": 0.0, "epochs": 10},
    {"loss": "certified-set", "temperature": 0.15, "ranking_weight": 1.0, "epochs": 7},
    {"loss": "certified-set", "temperature": 0.15, "ranking_weight": 0.5, "epochs": 7},
    {"loss": "certified-set", "temperature": 0.15, "ranking_weight": 0.1, "epochs": 8},
)


def arguments() -> argparse.Namespace:
    """The command line; --quick makes everything small."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", type=Path, help="a public .nnet network that gives the labels")
    parser.add_argument("--quick", action="store_true", help="small, on the encounter table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("losses.json"))
    given = parser.parse_args()
    sizes = (2000, 500, 500) if given.quick else (50_000, 10_000, 20_000)
    given.train, given.validation, given.test = sizes
    if given.network is None and not given.quick and SHARED.is_file():
        given.network = SHARED
    return given


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    source, parts, _ = load_data(given)
    recipe = load_recipe("acasxu-fast")
    rows: list[dict[str, Any]] = []
    for chosen in LOSSES:
        epochs = 2 if given.quick else chosen["epochs"]
        settings = recipe.optimisation.model_copy(update={**chosen, "epochs": epochs})
        net = network_of(recipe, parts["train"], given.seed)
        started = time.process_time()
        fit(net, parts["train"], settings, seed=given.seed, progress=False)
        seconds = time.process_time() - started
        held = parts["validation"]
        found, _ = evaluate(net, held.inputs, held.labels)
        rows.append({**chosen, "epochs": epochs, **found.as_dict(), "cpu_seconds": seconds})
        name = f"{chosen['loss']}, T {chosen['temperature']}"
        if chosen["loss"] == "certified-set":
            name += f", ranking weight {chosen['ranking_weight']}"
        shares = " | ".join(f"{rows[-1][share]:.3f}" for share in SHOWN)
        print(f"{name} ({epochs} epochs) | {shares} | {seconds:.0f} s", flush=True)
    write_text(given.out, json.dumps({"labels": source, "rows": rows}, indent=2) + "\n")
    print(f"written to {given.out}")


if __name__ == "__main__":
    main()
