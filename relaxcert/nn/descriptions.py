"""How each kind of layer is written as data, and made from data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from relaxcert.nn.elementwise import Abs, Diagonal
from relaxcert.nn.householder import Householder
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.nn.rearrange import Rearrange
from relaxcert.nn.shapes import GroupSort, InvertibleDownsampling, Part, Permute, Reshape, Scale

_LARGEST = 4096  # paddings take memory that no tensor in the file stands for
_MOST_NUMBERS = 2**24  # of one point
Fields = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]  # of the tensors of one layer, by their names in it


@dataclass(frozen=True)
class Kind:
    """One kind of layer.

    Attributes:
        type: the layer's type.
        fields: what describes a layer beside the shapes of its tensors.
        build: makes it, on the device "meta" where it has weights.
    """

    type: type[nn.Module]
    fields: Callable[[Any], dict[str, Any]]
    build: Callable[[Fields, Shapes], nn.Module]


def _plain(kind: type[nn.Module]) -> Kind:
    return Kind(kind, lambda layer: {}, lambda fields, shapes: kind())


def _with(kind: type[nn.Module], **names: Callable[[Any], Any]) -> Kind:
    """A layer without weights that is made from attributes; each with its converter."""

    def fields(layer: Any) -> dict[str, Any]:
        return {name: _as_data(getattr(layer, name)) for name in names}

    def build(data: Fields, shapes: Shapes) -> nn.Module:
        return kind(**{name: convert(data[name]) for name, convert in names.items()})

    return Kind(kind, fields, build)


def _as_data(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _sizes(value: Any) -> Any:
    """An integer, or a tuple of integers."""
    if isinstance(value, list):
        return tuple(_integer(size) for size in value)  # pyright: ignore[reportUnknownVariableType]
    return _integer(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not an integer")
    if abs(value) > _LARGEST:
        raise ValueError(f"{value} is larger than any kernel, stride or padding in use")
    return value


def _scales(value: Any) -> Any:
    """A positive number, or a tuple of such: what is made of an input is as much larger."""
    if isinstance(value, list):
        return tuple(_scales(scale) for scale in value)  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(value, float) or not 0 < value <= 16:
        raise ValueError(f"{value!r} is no scale up to 16")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is not true or false")
    return value


def _maybe_sizes(value: Any) -> Any:
    return None if value is None else _sizes(value)


def _padding(value: Any) -> Any:
    return value if value in ("same", "valid") else _sizes(value)


def _convolution(kind: Any, transposed: bool = False) -> Kind:
    names = ["stride", "padding", "dilation", *(["output_padding"] * transposed)]

    def fields(layer: Any) -> dict[str, Any]:
        found = {name: _as_data(getattr(layer, name)) for name in names}
        more = {"groups": layer.groups, "bias": layer.bias is not None}
        return found | more | {"padding_mode": layer.padding_mode}

    def build(data: Fields, shapes: Shapes) -> nn.Module:
        first, second, *kernel = shapes["weight"]
        groups = _integer(data["groups"])
        inputs, outputs = (first, second * groups) if transposed else (second * groups, first)
        return kind(
            inputs,
            outputs,
            tuple(kernel),
            padding_mode=str(data["padding_mode"]),
            bias=_flag(data["bias"]),
            device="meta",
            groups=groups,
            **{
                n: (_padding if n == "padding" else _sizes)(data[n]) for n in names if n != "groups"
            },
        )

    return Kind(kind, fields, build)


def _linear(fields: Fields, shapes: Shapes) -> nn.Module:
    outputs, inputs = shapes["weight"]
    return nn.Linear(inputs, outputs, bias=bool(fields["bias"]), device="meta")


def _normalisation(fields: Fields, shapes: Shapes) -> nn.Module:
    return InputNormalisation(torch.zeros(shapes["mean"]), torch.ones(shapes["std"]))


def _batch_norm(kind: Any) -> Kind:
    def fields(layer: Any) -> dict[str, Any]:
        return {"eps": layer.eps, "momentum": layer.momentum, "affine": layer.affine}

    def build(data: Fields, shapes: Shapes) -> nn.Module:
        momentum = data["momentum"]
        (features,) = shapes["running_mean"]
        return kind(
            features,
            eps=float(data["eps"]),
            momentum=None if momentum is None else float(momentum),
            affine=_flag(data["affine"]),
            device="meta",
        )

    return Kind(kind, fields, build)


def _householder(fields: Fields, shapes: Shapes) -> nn.Module:
    (pairs,) = shapes["angles"]
    layer = Householder(2)
    layer.channels = 2 * pairs
    layer.angles = nn.Parameter(torch.empty(pairs, device="meta"))
    return layer


def _rearrange(fields: Fields, shapes: Shapes) -> nn.Module:
    count = fields["count"]
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= _MOST_NUMBERS:
        raise ValueError(f"{count!r} numbers a point")
    # As large as the tensor in the file, which then takes its place and is checked.
    return Rearrange(torch.zeros(shapes["places"], dtype=torch.int64), count)


def _prelu(fields: Fields, shapes: Shapes) -> nn.Module:
    return nn.PReLU(shapes["weight"][0], device="meta")


def _pools() -> list[Kind]:
    found: list[Kind] = []
    for pool in (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d):
        found.append(
            _with(
                pool,
                kernel_size=_sizes,
                stride=_sizes,
                padding=_sizes,
                dilation=_sizes,
                ceil_mode=_flag,
            )
        )
    for pool in (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d):
        names: dict[str, Callable[[Any], Any]] = {
            "kernel_size": _sizes,
            "stride": _sizes,
            "padding": _sizes,
            "ceil_mode": _flag,
            "count_include_pad": _flag,
        }
        if pool is not nn.AvgPool1d:
            names["divisor_override"] = _maybe_sizes
        found.append(_with(pool, **names))
    adaptive = (
        nn.AdaptiveAvgPool1d,
        nn.AdaptiveAvgPool2d,
        nn.AdaptiveAvgPool3d,
        nn.AdaptiveMaxPool1d,
        nn.AdaptiveMaxPool2d,
        nn.AdaptiveMaxPool3d,
    )
    return found + [_with(pool, output_size=_sizes) for pool in adaptive]


_LIST = [
    Kind(nn.Linear, lambda layer: {"bias": layer.bias is not None}, _linear),
    Kind(
        nn.Flatten,
        lambda layer: {"start": layer.start_dim, "end": layer.end_dim},
        lambda fields, shapes: nn.Flatten(int(fields["start"]), int(fields["end"])),
    ),
    Kind(InputNormalisation, lambda layer: {}, _normalisation),
    Kind(
        Diagonal, lambda layer: {}, lambda fields, shapes: Diagonal(torch.ones(shapes["factors"]))
    ),
    Kind(Householder, lambda layer: {}, _householder),
    Kind(Rearrange, lambda layer: {"count": layer.count}, _rearrange),
    Kind(nn.PReLU, lambda layer: {}, _prelu),
    Kind(
        Reshape,
        lambda layer: {"shape": list(layer.shape)},
        lambda fields, shapes: Reshape(*map(int, fields["shape"])),
    ),
    Kind(
        Permute,
        lambda layer: {"order": list(layer.order)},
        lambda fields, shapes: Permute(*_sizes(fields["order"])),
    ),
    _with(nn.Upsample, scale_factor=_scales, mode=str),
    _with(nn.Dropout, p=float),
    _with(nn.Dropout1d, p=float),
    _with(nn.Dropout2d, p=float),
    _with(nn.Dropout3d, p=float),
    _with(nn.LeakyReLU, negative_slope=float),
    _with(nn.ELU, alpha=float),
    _with(nn.Hardtanh, min_val=float, max_val=float),
    _with(nn.Softplus, beta=float, threshold=float),
    _with(nn.GELU, approximate=str),
    _with(nn.PixelUnshuffle, downscale_factor=_integer),
    _with(nn.PixelShuffle, upscale_factor=_integer),
    _with(GroupSort, size=_integer),
    _with(Scale, factor=float),
    _with(Part, index=_integer, count=_integer, dim=_integer),
    _with(nn.ChannelShuffle, groups=_integer),
    *(_plain(k) for k in (nn.ReLU, nn.ReLU6, MinMax, Abs, nn.Identity, InvertibleDownsampling)),
    *(_plain(k) for k in (nn.Tanh, nn.Sigmoid, nn.SiLU, nn.Softsign)),
    *(_batch_norm(k) for k in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)),
    *(_convolution(k) for k in (nn.Conv1d, nn.Conv2d, nn.Conv3d)),
    *(
        _convolution(k, transposed=True)
        for k in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    ),
    *_pools(),
]
KINDS: dict[str, Kind] = {kind.type.__name__: kind for kind in _LIST}
