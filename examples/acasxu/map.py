"""The picture people know: advisories over the position of an intruder, and what is certified.

    python examples/acasxu/map.py --out map.png
    python examples/acasxu/map.py --nnet ACASXU_run2a_1_1_batch_2000.nnet --out map-1-1.png

Three panels: what the labels say (the solved encounter table, or a public ACAS Xu network), what a
network trained on them says, and which sets of advisories it is certified for within eps. The own
aircraft is at the origin and flies to the right; the intruder flies in one direction.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from relaxcert.cli.train import network_of
from relaxcert.data.acasxu import acasxu, labeller_of, normalised
from relaxcert.data.hcas import hcas, load_table
from relaxcert.data.landsat import Split
from relaxcert.heads.certificates import Certificates
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.interop import read_nnet
from relaxcert.report import plots
from relaxcert.training import fit, load_recipe

# Advisories alone, the four adjacent pairs, nothing. Okabe & Ito's and Tol's colours: neighbours
# differ in lightness too, so that the picture can be read in grey and with any colour vision.
AREAS: dict[frozenset[int], tuple[str, str]] = {
    frozenset({0}): ("clear of conflict (COC)", "#F4F4EC"),
    frozenset({1}): ("weak left (WL)", "#9AD3F5"),
    frozenset({3}): ("strong left (SL)", "#3F8FC8"),
    frozenset({2}): ("weak right (WR)", "#F6C95F"),
    frozenset({4}): ("strong right (SR)", "#DE7A33"),
    frozenset({0, 1}): ("COC or WL", "#117733"),
    frozenset({0, 2}): ("COC or WR", "#CC79A7"),
    frozenset({1, 3}): ("WL or SL", "#2B2A86"),
    frozenset({2, 4}): ("WR or SR", "#7A1F3D"),
    frozenset(): ("rejected: no set is certified", "#B5B5B5"),
}
# In turn order from left to right; below each advisory a pair that it belongs to.
LEGEND = [
    frozenset(members) for members in ([3], [1, 3], [1], [0, 1], [0], [], [2], [0, 2], [4], [2, 4])
]
PLACE = {members: place for place, members in enumerate(AREAS)}


@dataclass(frozen=True)
class Source:
    """Where the labels come from."""

    name: str
    parts: dict[str, Split]
    advise: Callable[[np.ndarray], np.ndarray]
    normalise: Callable[[np.ndarray], np.ndarray]
    speeds: tuple[float, ...]


def encounter_table(size: tuple[int, int, int]) -> Source:
    """The decision process, both aircraft at 200 feet per second."""
    table = load_table(speeds=1)
    return Source(
        "encounter table (labels)",
        hcas(speeds=1, sizes=size),
        table.advisories,
        lambda physical: (physical - table.middle) / table.width,
        (),
    )


def public_network(path: Path, size: tuple[int, int, int]) -> Source:
    """An ACAS Xu network, own aircraft at 300 and intruder at 300 feet per second."""
    read = read_nnet(path)
    identity = hashlib.sha256(path.read_bytes()).hexdigest()
    return Source(
        f"{path.stem} (labels)",
        acasxu(read.network, identity=identity, sizes=size),
        labeller_of(read.network),
        normalised,
        (300.0, 300.0),
    )


def plane(source: Source, reach: float, side: int, heading: float) -> np.ndarray:
    """Normalised encounters on a grid of positions, (side * side, inputs), row by row."""
    x, y = np.meshgrid(np.linspace(-0.4, 1.0, side) * reach, np.linspace(-0.7, 0.7, side) * reach)
    columns = [np.hypot(x, y), np.arctan2(y, x), np.full_like(x, heading)]
    columns += [np.full_like(x, speed) for speed in source.speeds]
    physical = np.stack([column.reshape(-1) for column in columns], axis=1)
    return source.normalise(physical).astype(np.float32)


def trained(recipe_name: str, source: Source, seed: int) -> GloRoNet:
    """A network of the recipe, trained on the source."""
    recipe = load_recipe(recipe_name)
    net = network_of(recipe, source.parts["train"], seed)
    fit(net, source.parts["train"], recipe.optimisation, seed=seed)
    return net


def areas_of_advisories(advisories: np.ndarray) -> np.ndarray:
    """Which colour each advisory alone has."""
    return np.array([PLACE[frozenset({label})] for label in range(5)])[advisories]


def areas_of_certificates(certificates: Certificates) -> np.ndarray:
    """Which colour each strictest certified set has."""
    members = certificates.strictest_sets.tolist()
    return np.array(
        [PLACE[frozenset(label for label, held in enumerate(row) if held)] for row in members]
    )


def draw(
    panels: list[tuple[str, np.ndarray]], reach: float, heading: float, caption: str, out: Path
) -> None:
    """Panels side by side, one legend below."""
    figure, axes = plots.new_figure(columns=len(panels), width=15, height=6.6)
    colours = ListedColormap([colour for _, colour in AREAS.values()])
    extent = (-0.4 * reach / 1e3, reach / 1e3, -0.7 * reach / 1e3, 0.7 * reach / 1e3)
    for (title, area), ax in zip(panels, axes, strict=True):
        ax.imshow(
            area,
            cmap=colours,
            vmin=-0.5,
            vmax=len(AREAS) - 0.5,
            origin="lower",
            extent=extent,
            interpolation="nearest",
        )
        ax.set_title(title, fontsize=13)
        ax.set_xlabel("intruder ahead (1000 ft)")
        _aircraft(ax, (0.0, 0.0), 0.0, "black")
        _aircraft(
            ax, (extent[0] + 0.1 * reach / 1e3, extent[3] - 0.1 * reach / 1e3), heading, "0.35"
        )
    axes[0].set_ylabel("intruder to the left (1000 ft)")
    patches = [
        Patch(facecolor=AREAS[members][1], edgecolor="0.3", linewidth=0.6, label=AREAS[members][0])
        for members in LEGEND
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=5, fontsize=11, frameon=False)
    figure.suptitle(caption, fontsize=12)
    plots.save(figure, out)


def _aircraft(ax: Axes, place: tuple[float, float], heading: float, colour: str) -> None:
    """An arrowhead that points where the aircraft flies."""
    ax.plot(
        *place,
        marker=(3, 0, math.degrees(heading) - 90.0),
        markersize=13,
        color=colour,
        markeredgecolor="white",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("map.png"), help="the picture, .png/.svg")
    parser.add_argument("--nnet", type=Path, help="a public network instead of the encounter table")
    parser.add_argument("--recipe", default="acasxu-fast")
    parser.add_argument("--heading", type=float, default=-90.0, help="of the intruder, degrees")
    parser.add_argument("--reach", type=float, default=12_000.0, help="feet ahead that are shown")
    parser.add_argument("--side", type=int, default=320, help="pixels a side of each map")
    parser.add_argument("--train", type=int, default=50_000, help="training points")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    size = (given.train, 1000, 1000)
    source = public_network(given.nnet, size) if given.nnet else encounter_table(size)
    net = trained(given.recipe, source, given.seed)
    heading = math.radians(given.heading)
    points = plane(source, given.reach, given.side, heading)
    certificates = net.certify(torch.from_numpy(points), batch_size=65_536)
    shape = (given.side, given.side)
    panels = [
        (source.name, areas_of_advisories(source.advise(points)).reshape(shape)),
        (
            f"network trained by {given.recipe}",
            areas_of_advisories(certificates.prediction.numpy()).reshape(shape),
        ),
        (
            "its certificates: smallest certified set",
            areas_of_certificates(certificates).reshape(shape),
        ),
    ]
    eps = net.prop.balls[0].eps
    caption = (
        "Advisories over the position of an intruder that flies as the grey arrowhead does; own "
        f"aircraft: black, flying right.\nCertified within eps = {float(eps):g} (l2, normalised "
        "inputs): no advisory outside the coloured set anywhere in the ball."
    )
    draw(panels, given.reach, heading, caption, given.out)
    certified = int(certificates.certified.sum())
    print(f"{certified} of {len(certificates)} positions certified; picture in {given.out}")


if __name__ == "__main__":
    main()
