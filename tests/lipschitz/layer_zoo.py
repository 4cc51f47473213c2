"""Random layers of every supported kind, with an input shape that fits, and references for them."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from relaxcert.lipschitz import registry
from relaxcert.nn import (
    Abs,
    GroupSort,
    Householder,
    InputNormalisation,
    InvertibleDownsampling,
    MinMax,
    Scale,
)

Case = tuple[nn.Module, tuple[int, ...]]
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
MEAN = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
ADAPTIVE = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
ADAPTIVE_MAX = {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d}


def each(rng: random.Random, dims: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(rng.randint(low, high) for _ in range(dims))


def randomised(layer: nn.Module, rng: random.Random) -> nn.Module:
    """The layer in double precision with random weights and statistics, in eval mode."""
    generator = torch.Generator().manual_seed(rng.randrange(2**30))
    layer = layer.double().eval()
    with torch.no_grad():
        for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
            if not tensor.is_floating_point():
                continue
            values = torch.randn(tensor.shape, dtype=torch.float64, generator=generator)
            positive = name.rpartition(".")[2] in ("running_var", "std")
            # Numbers of float32, so that the layer may also run in it.
            tensor.copy_((values.abs() + 0.01 if positive else values).float())
    return layer


def conv(rng: random.Random) -> Case:
    dims = rng.choice([1, 1, 2, 2, 3])
    most, groups = {1: 9, 2: 6, 3: 3}[dims], rng.choice([1, 1, 2])
    channels, outputs = groups * rng.randint(1, 2), groups * rng.randint(1, 2)
    size, kernel = each(rng, dims, 1, most), each(rng, dims, 1, 4 if dims < 3 else 2)
    stride, dilation = each(rng, dims, 1, 3), each(rng, dims, 1, 2)
    settings = {
        "stride": stride,
        "dilation": dilation,
        "padding": each(rng, dims, 0, 3),
        "groups": groups,
        "bias": rng.random() < 0.7,
    }
    kind = rng.choice(["zero", "zero", "same", "circular", "transposed"])
    if kind in ("same", "circular"):
        settings |= {"stride": 1, "padding": "same"}
        if kind == "circular":
            settings["padding_mode"] = "circular"
    if kind == "transposed":
        settings["output_padding"] = tuple(
            rng.randrange(max(s, d)) for s, d in zip(stride, dilation, strict=True)
        )
    layer = (TRANSPOSED if kind == "transposed" else CONV)[dims](
        channels, outputs, kernel, **settings
    )
    return layer, (channels, *size)


def pool(kinds: dict[int, type[nn.Module]]) -> Callable[[random.Random], Case]:
    def make(rng: random.Random) -> Case:
        dims = rng.choice([1, 2, 2, 3])
        kernel = each(rng, dims, 1, 3)
        settings: dict = {"padding": tuple(k // 2 for k in kernel) if rng.random() < 0.5 else 0}
        if kinds is MAX:
            settings["dilation"] = each(rng, dims, 1, 2)
        layer = kinds[dims](kernel, stride=each(rng, dims, 1, 3), **settings)
        return layer, (rng.randint(1, 2), *each(rng, dims, 3, 6 if dims < 3 else 4))

    return make


def adaptive(kinds: dict[int, type[nn.Module]]) -> Callable[[random.Random], Case]:
    def make(rng: random.Random) -> Case:
        dims = rng.choice([1, 2, 3])
        return kinds[dims](1), (rng.randint(1, 2), *each(rng, dims, 1, 4))

    return make


def batch_norm(rng: random.Random) -> Case:
    dims, channels = rng.choice([0, 1, 2, 3]), rng.randint(1, 4)
    layer = BATCH[max(1, dims)](channels, affine=rng.random() < 0.7)
    return layer, (channels, *each(rng, dims, 1, 3))


def linear(rng: random.Random) -> Case:
    inputs, outputs = rng.randint(1, 7), rng.randint(1, 7)
    places = each(rng, rng.choice([0, 0, 1]), 1, 4)
    return nn.Linear(inputs, outputs, bias=rng.random() < 0.7), (*places, inputs)


def elementwise(make: Callable[[random.Random], nn.Module]) -> Callable[[random.Random], Case]:
    return lambda rng: (make(rng), each(rng, rng.choice([1, 3]), 2, 4))


def on_channels(make: Callable[[int], nn.Module], group: int) -> Callable[[random.Random], Case]:
    def case(rng: random.Random) -> Case:
        channels = group * rng.randint(1, 3)
        return make(channels), (channels, *each(rng, rng.choice([0, 2]), 1, 3))

    return case


LINEAR_KINDS: dict[str, Callable[[random.Random], Case]] = {
    "linear": linear,
    "convolution": conv,
    "average pool": pool(MEAN),
    "adaptive average": adaptive(ADAPTIVE),
    "batch norm": batch_norm,
    "normalisation": lambda rng: (InputNormalisation(torch.zeros(4), torch.ones(4)), (4,)),
    "scale": elementwise(lambda rng: Scale(float(torch.tensor(rng.gauss(0, 2))))),
    "pixel unshuffle": lambda rng: (nn.PixelUnshuffle(2), (rng.randint(1, 2), 4, 2)),
    "down-sampling": lambda rng: (InvertibleDownsampling(), (rng.randint(1, 2), 2, 4)),
}
OTHER_KINDS: dict[str, Callable[[random.Random], Case]] = {
    "max pool": pool(MAX),
    "adaptive max": adaptive(ADAPTIVE_MAX),
    "relu": elementwise(lambda rng: nn.ReLU()),
    "abs": elementwise(lambda rng: Abs()),
    "leaky": elementwise(lambda rng: nn.LeakyReLU(rng.choice([0.01, 0.3, -0.7, 2.5]))),
    "prelu": on_channels(nn.PReLU, 1),
    "tanh": elementwise(lambda rng: nn.Tanh()),
    "sigmoid": elementwise(lambda rng: nn.Sigmoid()),
    "silu": elementwise(lambda rng: nn.SiLU()),
    "gelu": elementwise(lambda rng: nn.GELU()),
    "gelu tanh": elementwise(lambda rng: nn.GELU("tanh")),
    "softplus": elementwise(lambda rng: nn.Softplus(rng.choice([1, 3]))),
    "softsign": elementwise(lambda rng: nn.Softsign()),
    "elu": elementwise(lambda rng: nn.ELU(rng.choice([0.3, 1.0, 1.7, -0.6]))),
    "hardtanh": elementwise(lambda rng: nn.Hardtanh(*rng.choice([(-1, 1), (-0.3, 2.1), (0, 6)]))),
    "relu6": elementwise(lambda rng: nn.ReLU6()),
    "upsample": lambda rng: (
        nn.Upsample(scale_factor=rng.choice([1, 2, (2, 4), (4, 1)])),
        (rng.randint(1, 2), *each(rng, 2, 1, 3)),
    ),
    "minmax": on_channels(lambda channels: MinMax(), 2),
    "groupsort": on_channels(lambda channels: GroupSort(3), 3),
    "householder": on_channels(Householder, 2),
}
KINDS = LINEAR_KINDS | OTHER_KINDS


def random_case(name: str, rng: random.Random) -> Case:
    """A layer that torch and the rules accept."""
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # padding='same' with even kernels copies its input
                layer, shape = KINDS[name](rng)
                layer = randomised(layer, rng)
                with torch.no_grad():
                    layer(torch.zeros(2, *shape, dtype=torch.float64))
            rule_at(layer, shape).verified(layer, "l2")
        except (RuntimeError, ValueError, TypeError):
            continue
        return layer, shape


def rule_at(layer: nn.Module, shape: tuple[int, ...]) -> registry.Rule:
    return registry.rule_for(layer, "").at(shape)


def dense(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The matrix of an affine layer, (outputs, inputs), by its values on the identity basis."""
    count = math.prod(shape)
    basis = torch.eye(count, dtype=torch.float64).reshape(count, *shape)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        constant = layer(torch.zeros(1, *shape, dtype=torch.float64))
        return (layer(basis) - constant).flatten(1).T
