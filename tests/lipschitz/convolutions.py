"""Random convolutions and their matrices, for the tests of their norms."""

from __future__ import annotations

import math
import random
import warnings
from fractions import Fraction

import torch
from torch import nn

from relaxcert.errors import InvalidInput, UnsupportedLayer
from relaxcert.lipschitz.convolution import (
    Convolution,
    spectral_norm,
)

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


def dense(layer: nn.Module, channels: int, size: tuple[int, ...]) -> torch.Tensor:
    """The layer's own matrix: its outputs on the identity basis (products by 0 and 1 are exact)."""
    count = channels * math.prod(size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # padding='same' with an even kernel copies its input
        return (
            layer(torch.eye(count, dtype=torch.float64).reshape(count, channels, *size))
            .flatten(1)
            .T
        )


def filled(layer: nn.Module, seed: int, kind: str = "gaussian") -> nn.Module:
    layer = layer.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight = torch.randn(layer.weight.shape, dtype=torch.float64, generator=generator)
        if kind == "integers":
            weight = (2 * weight).round()
        elif kind == "positive":
            weight = weight.abs()
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def random_layer(rng: random.Random) -> tuple[nn.Module, int, tuple[int, ...]]:
    """A layer that torch accepts, its input channels and its input size."""
    while True:
        dims = rng.choice([1, 1, 1, 2, 2, 3])
        most = {1: 9, 2: 6, 3: 3}[dims]
        groups = rng.choice([1, 1, 2, 3])
        channels = groups * rng.randint(1, 2 if groups > 1 or dims == 3 else 4)
        outputs = groups * rng.randint(1, 2 if groups > 1 or dims == 3 else 4)

        def each(low: int, high: int, dims: int = dims) -> tuple[int, ...]:
            return tuple(rng.randint(low, high) for _ in range(dims))

        size, kernel = each(1, most), each(1, 5 if dims < 3 else 3)
        stride, dilation, padding = each(1, 3), each(1, 3 if dims == 1 else 2), each(0, 4)
        kind = rng.choice(["conv", "conv", "conv", "same", "circular", "transposed"])
        extra = {"stride": stride, "dilation": dilation, "padding": padding, "groups": groups}
        if kind == "same":
            extra |= {"stride": 1, "padding": "same"}
        if kind == "circular":
            extra["padding_mode"] = "circular"
            if rng.random() < 0.7:
                extra |= {"stride": 1, "padding": "same"}
        if kind == "transposed":
            extra["output_padding"] = tuple(
                rng.randrange(max(s, d)) for s, d in zip(stride, dilation, strict=True)
            )
        try:
            layer = (TRANSPOSED if kind == "transposed" else CONV)[dims](
                channels, outputs, kernel, **extra
            )
            layer = filled(
                layer, rng.randrange(2**30), rng.choice(["gaussian", "integers", "positive"])
            )
            dense(layer, channels, size)
            Convolution.of(layer, size)
        except (RuntimeError, InvalidInput, UnsupportedLayer):
            continue
        return layer, channels, size


def exact_sum_norm(matrix: torch.Tensor, dim: int) -> Fraction:
    lines = matrix.T.tolist() if dim == 0 else matrix.tolist()
    return max(sum((abs(Fraction(v)) for v in line), start=Fraction(0)) for line in lines)


def search(count: int, seed: int) -> tuple[int, list[float]]:
    """Violations and relative gaps of the default l2 bound over random layers."""
    rng = random.Random(seed)
    violations, gaps = 0, []
    for _ in range(count):
        layer, channels, size = random_layer(rng)
        matrix = dense(layer, channels, size)
        truth = float(torch.linalg.matrix_norm(matrix, 2))
        bound = spectral_norm(Convolution.of(layer, size)).value
        violations += bound < truth * (1 - 1e-13)
        gaps.append(bound / truth - 1 if truth else 0.0)
    return violations, gaps
