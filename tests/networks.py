"""Small random backbones and properties of every kind, for many tests."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor, nn

from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.spec import Affinity, AffinitySets, Local, Property, RelaxedTopK, Targeted, TopK
from relaxcert.testing.exact import exact_rows
from relaxcert.testing.sampling import directions, steepest

__all__ = [
    "NORMS",
    "directions",
    "every_kind",
    "exact_rows",
    "generator",
    "linear",
    "randn",
    "random_backbone",
    "steepest",
]

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
