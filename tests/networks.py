"""Small random backbones, properties of every kind, and points of a ball, for many tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise, product

import torch
from torch import Tensor, nn

from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.spec import Affinity, AffinitySets, Local, Property, RelaxedTopK, Targeted, TopK

NORMS = ("l2", "linf", "l1")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def linear(weight: object, bias: object = None, dtype: torch.dtype = torch.float64) -> nn.Linear:
    """A Linear layer with exactly these numbers."""
    matrix = torch.as_tensor(weight, dtype=dtype)
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=bias is not None, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(matrix)
        if bias is not None:
            layer.bias.copy_(torch.as_tensor(bias, dtype=dtype))
    return layer


def random_backbone(
    seed: int,
    features: int = 4,
    hidden: Sequence[int] = (6, 6),
    classes: int = 4,
    *,
    activation: type[nn.Module] = MinMax,
    normalise: bool = False,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Gaussian weights (not orthogonal, so that an estimate and the truth differ), some biases."""
    layers: list[nn.Module] = []
    if normalise:
        layers.append(InputNormalisation(0.5, 0.25))
    layers.append(nn.Flatten())
    widths = [features, *hidden, classes]
    for place, (before, after) in enumerate(pairwise(widths)):
        weight = randn(1000 * seed + place, after, before) / before**0.5
        layers.append(linear(weight, randn(1000 * seed + place + 500, after) / 3, dtype))
        layers.append(activation())
    return nn.Sequential(*layers[:-1]).to(dtype)


def every_kind(classes: int, eps: object = 0.1, norm: str = "l2") -> list[Property]:
    """One or more properties of each kind for ``classes`` classes (at least 3)."""
    ball = {"eps": eps, "norm": norm}
    overlapping = AffinitySets(
        [[0, 1], [1, 2], [2], *([label] for label in range(3, classes))], classes
    )
    partition = AffinitySets([[0, 1], list(range(2, classes))], classes)
    neighbours = Targeted.neighbours(list(range(classes)), **ball)
    k = classes - 1
    return [
        Local(**ball),
        TopK(2, **ball),
        RelaxedTopK(2, **ball),
        RelaxedTopK(k, **ball),
        RelaxedTopK(k, **ball, quantifier="pointwise"),
        Affinity(overlapping, **ball),
        Affinity(partition, **ball),
        Affinity(partition, **ball, quantifier="pointwise"),
        neighbours,
        Local(**ball) & neighbours,
        TopK(2, **ball) | Local(eps=Fraction(eps) / 2, norm=norm),
    ]


def directions(norm: str, features: int, seed: int, extra: Tensor | None = None) -> Tensor:
    """Directions of length 1 in ``norm``: random ones, axes, corners, and steepest ones.

    ``extra``, (n, features), are functionals; for each the direction that raises it most is added.
    """
    random = randn(seed, 24, features)
    axes = torch.eye(features, dtype=torch.float64)
    corners = torch.tensor(list(product((-1.0, 1.0), repeat=min(features, 5)))).double()
    corners = nn.functional.pad(corners, (0, features - corners.shape[1]))
    rows = [random, axes, -axes, corners]
    if extra is not None:
        functionals = extra.double().reshape(-1, features)
        rows += [steepest(functionals, norm), -steepest(functionals, norm)]
    every = torch.cat(rows)
    lengths = torch.linalg.vector_norm(every, {"l2": 2, "linf": torch.inf, "l1": 1}[norm], dim=1)
    return (every / lengths[:, None])[lengths > 0]


def steepest(functionals: Tensor, norm: str) -> Tensor:
    """The direction of the unit ball in which each functional grows fastest."""
    match norm:
        case "l2":
            return functionals
        case "linf":
            return functionals.sign()
        case _:
            place = functionals.abs().argmax(1, keepdim=True)
            chosen = functionals.gather(1, place).sign()
            return torch.zeros_like(functionals).scatter(1, place, chosen)


def exact_rows(values: Tensor) -> Iterator[tuple[Fraction, ...]]:
    """The rows of a matrix as exact numbers."""
    for row in values.detach().double().tolist():
        yield tuple(map(Fraction, row))
