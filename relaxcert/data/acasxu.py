"""The balanced reconstruction of the paper's ACAS Xu data (Appendix D) from a public network.

The ACAS Xu tables are not public; the paper labels random inputs by one of the public networks
(Katz et al., Reluplex, CAV 2017). It states neither the network, nor the distribution, nor the
number of points, so this is a reconstruction: uniform inputs, of which equally many are kept of
each advisory. A plain uniform sample is 85 % clear of conflict, and a network that always answers
that would surpass the paper's VRA.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from relaxcert.data.cache import cached
from relaxcert.data.hcas.model import CLASS_NAMES
from relaxcert.data.hcas.parts import SIZES
from relaxcert.data.landsat import Split
from relaxcert.data.rejection import Labels, Points, samples, splits_of
from relaxcert.errors import InvalidInput
from relaxcert.training.progress import bar

# rho (feet), theta, psi (radians), v_own, v_int (feet per second); the same for all 45 networks.
MINIMUM = (0.0, -3.141593, -3.141593, 100.0, 0.0)
MAXIMUM = (60760.0, 3.141593, 3.141593, 1200.0, 1200.0)
MEAN = (19791.091, 0.0, 0.0, 650.0, 600.0)
RANGE = (60261.0, 6.28318530718, 6.28318530718, 1100.0, 1200.0)

Network = Callable[[Tensor], Tensor]


def acasxu(
    network: Network,
    *,
    identity: str,
    sizes: tuple[int, int, int] = SIZES,
    seed: int = 0,
    folder: Path | None = None,
    progress: bool = True,
) -> dict[str, Split]:
    """Samples labelled by a network: ``train``, ``validation``, ``test``, and ``uniform``.

    Inputs are float32, normalised, (x - mean) / range, and uniform in the region of ACAS Xu; the
    first three parts hold equally many points of each advisory, the fourth is as it comes.

    Args:
        network: (batch, 5) float64, normalised -> (batch, 5) scores, larger is better, as
            ``read_nnet(path).network``.
        identity: what tells this network from others in the cache, for instance the SHA-256 of its
            file.
        sizes: points of train, validation and test; the uniform part is as large as test.
        seed: of the samples.
        folder: of the cache.
        progress: show a bar when attached to a terminal.

    Raises:
        InvalidInput: the network does not take 5 inputs or give 5 scores.
        DataError: the network never gives some advisory.
    """
    labeller = labeller_of(network)
    key = {"format": 1, "network": identity, "sizes": list(sizes), "seed": seed}

    def compute() -> dict[str, np.ndarray]:
        with bar(enabled=progress) as shown:
            task = shown.add_task("sampling", total=sum(sizes) + sizes[2])
            return samples(
                labeller,
                normalised(np.array(MINIMUM)),
                normalised(np.array(MAXIMUM)),
                len(CLASS_NAMES),
                sizes=sizes,
                seed=seed,
                after_batch=lambda found: shown.update(task, completed=found),
            )

    return splits_of(cached("acasxu-sample", key, compute, folder=folder), CLASS_NAMES)


def labeller_of(network: Network) -> Callable[[Points], Labels]:
    """Points to the advisories of a network, whose larger scores are better; on a tie the first.

    Raises:
        InvalidInput: the network does not take 5 inputs or give 5 scores.
    """
    try:
        shape = tuple(network(torch.zeros(2, 5, dtype=torch.float64)).shape)
    except RuntimeError as error:
        raise InvalidInput(f"the network does not take (batch, 5) inputs: {error}") from error
    if shape != (2, 5):
        raise InvalidInput(
            f"the network returns shape {shape} for 2 points, expected (2, 5), a score an advisory."
        )

    def labels_of(points: Points) -> Labels:
        with torch.no_grad():
            return network(torch.from_numpy(points).double()).argmax(1).numpy()

    return labels_of


def normalised(physical: np.ndarray) -> np.ndarray:
    """(x - mean) / range; (..., 5) in feet, radians and feet per second -> (..., 5)."""
    return (physical - np.array(MEAN)) / np.array(RANGE)


def closest_pair(inputs: Tensor, labels: Tensor) -> float:
    """The smallest l2 distance between two points with different labels.

    The paper chose eps as half of it: eps-robustness needs classes 2 eps apart (Appendix D).
    """
    points, classes = inputs.flatten(1).double().numpy(), labels.numpy()
    distance = np.inf
    for label in np.unique(classes):
        inside = classes == label
        if inside.all():
            continue
        nearest, _ = KDTree(points[~inside]).query(points[inside])
        distance = min(distance, float(nearest.min()))
    return distance
