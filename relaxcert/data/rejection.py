"""Samples of a box, uniform or with equally many points of each class, by rejection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from relaxcert.data.landsat import Split
from relaxcert.errors import DataError, InvalidInput

Points = NDArray[np.float32]
Labels = NDArray[np.int64]
Labeller = Callable[[Points], Labels]
Progress = Callable[[int], object]
PARTS = ("train", "validation", "test", "uniform")

_BATCH = 65_536
_MOST = 2**27  # points tried for a balanced sample


def uniform_sample(
    labeller: Labeller, lower: object, upper: object, points: int, *, seed: tuple[int, ...]
) -> tuple[Points, Labels]:
    """Points drawn uniformly from a box, with their labels.

    Args:
        labeller: (batch, features) float32 -> (batch,) classes.
        lower, upper: the box, (features,).
        points: how many.
        seed: the same numbers give the same sample.
    """
    generator = np.random.default_rng(seed)
    batches = [
        _drawn(generator, lower, upper, min(_BATCH, points - start))
        for start in range(0, points, _BATCH)
    ]
    return np.concatenate(batches), np.concatenate([labeller(batch) for batch in batches])


def balanced_sample(
    labeller: Labeller,
    lower: object,
    upper: object,
    points: int,
    num_classes: int,
    *,
    seed: tuple[int, ...],
    after_batch: Progress = lambda found: None,
) -> tuple[Points, Labels]:
    """Uniform points of which only the first n of each class are kept, in random order.

    Within a class the points are uniform. Arguments as in :func:`uniform_sample`; ``points`` is
    shared out evenly, the first classes get one more where it does not divide. ``after_batch`` is
    called with the number of points found so far.

    Raises:
        DataError: a class is too rare to be found.
        InvalidInput: fewer points than classes.
    """
    if points < num_classes:
        raise InvalidInput(f"points={points} must be at least {num_classes}, one a class.")
    generator = np.random.default_rng(seed)
    wanted = np.array([len(range(c, points, num_classes)) for c in range(num_classes)])
    kept: list[list[Points]] = [[] for _ in range(num_classes)]
    found = np.zeros(num_classes, dtype=np.int64)
    # The stream of points is the same whatever the size of a batch.
    size = min(_BATCH, max(1024, 8 * points))
    for _ in range(_MOST // size):
        batch = _drawn(generator, lower, upper, size)
        labels = labeller(batch)
        for label in range(num_classes):
            chosen = batch[labels == label][: wanted[label] - found[label]]
            kept[label].append(chosen)
            found[label] += len(chosen)
        after_batch(int(found.sum()))
        if (found == wanted).all():
            break
    else:
        rare = int((found - wanted).argmin())
        raise DataError(
            f"class {rare} occurs {found[rare]} times in {_MOST} uniform points, "
            f"{wanted[rare]} are needed: ask for fewer points, or sample uniformly."
        )
    inputs = np.concatenate([np.concatenate(parts) for parts in kept])
    order = generator.permutation(points)
    return inputs[order], np.repeat(np.arange(num_classes), wanted)[order]


def samples(
    labeller: Labeller,
    lower: object,
    upper: object,
    num_classes: int,
    *,
    sizes: tuple[int, int, int],
    seed: int,
    after_batch: Progress = lambda found: None,
) -> dict[str, np.ndarray]:
    """Balanced train, validation and test parts, and a uniform one as large as the test part.

    ``sizes`` are those of train, validation and test; each part has random numbers of its own.
    Returns arrays ``x_PART`` and ``y_PART``.
    """
    arrays: dict[str, np.ndarray] = {}
    before = 0

    def report(found: int) -> None:
        after_batch(before + found)

    for place, (part, points) in enumerate(zip(PARTS, (*sizes, sizes[2]), strict=True)):
        own = (seed, place)
        if part == "uniform":
            pair = uniform_sample(labeller, lower, upper, points, seed=own)
        else:
            pair = balanced_sample(
                labeller, lower, upper, points, num_classes, seed=own, after_batch=report
            )
        before += points
        after_batch(before)
        arrays[f"x_{part}"], arrays[f"y_{part}"] = pair
    return arrays


def splits_of(arrays: dict[str, np.ndarray], class_names: tuple[str, ...]) -> dict[str, Split]:
    """The parts as Splits."""
    return {
        part: Split(
            torch.from_numpy(arrays[f"x_{part}"]),
            torch.from_numpy(arrays[f"y_{part}"]),
            class_names,
        )
        for part in PARTS
    }


def _drawn(generator: np.random.Generator, lower: object, upper: object, points: int) -> Points:
    # Rounded before they are labelled: a label belongs to the point that is stored.
    low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    return generator.uniform(low, high, (points, len(low))).astype(np.float32)
