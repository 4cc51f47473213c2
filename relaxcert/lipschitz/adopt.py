"""Calls in a ``forward`` method that are layers by another name, and those that change nothing.

Only what is listed here is understood. Everything else is refused by name, so that nothing passes
silently; an in-place call is not listed, because it may change a value that is used elsewhere.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from relaxcert.nn.elementwise import Abs
from relaxcert.nn.shapes import Permute, Reshape, Scale

Arguments = tuple[Any, ...]
Keywords = Mapping[str, Any]
Maker = Callable[[Arguments, Keywords], nn.Module]


class NotUnderstood(Exception):
    """A call with arguments that no layer stands for; says what would be understood."""


def layer_for_call(target: object, arguments: Arguments, keywords: Keywords) -> nn.Module | None:
    """The layer that computes ``target(x, *arguments, **keywords)``; None if it is not known.

    ``arguments`` are those after the tensor itself.

    Raises:
        NotUnderstood: the call is known, but not with these arguments.
    """
    maker = _CALLS.get(target)
    return None if maker is None else maker(arguments, keywords)


def _plain(kind: type[nn.Module]) -> Maker:
    def make(arguments: Arguments, keywords: Keywords) -> nn.Module:
        _only(arguments, keywords, inplace=False)
        return kind()

    return make


def _only(arguments: Arguments, keywords: Keywords, **defaults: object) -> None:
    """Accept keywords with their default values only."""
    odd = {k: v for k, v in keywords.items() if k not in defaults or defaults[k] != v}
    if arguments or odd:
        raise NotUnderstood(f"with arguments {arguments} {odd or ''}".strip())


def _flatten(arguments: Arguments, keywords: Keywords) -> nn.Module:
    names = dict(zip(("start_dim", "end_dim"), arguments, strict=False)) | dict(keywords)
    start, end = names.get("start_dim", 0), names.get("end_dim", -1)
    if start == 0:
        raise NotUnderstood("with start_dim=0, which mixes the points of a batch; use start_dim=1")
    return nn.Flatten(start, end)


def _reshape(arguments: Arguments, keywords: Keywords) -> nn.Module:
    shape = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple) else arguments
    if keywords or len(shape) < 2 or not all(isinstance(size, int) for size in shape[1:]):
        raise NotUnderstood(f"to {shape}; use (x.shape[0], sizes...) with fixed sizes")
    if shape[0] == -1 or isinstance(shape[0], int):
        raise NotUnderstood(f"to {shape}, which fixes or infers the batch; use x.shape[0] first")
    return Reshape(*shape[1:])


def _permute(arguments: Arguments, keywords: Keywords) -> nn.Module:
    order = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple) else arguments
    if keywords or not all(isinstance(place, int) and place >= 0 for place in order):
        raise NotUnderstood(f"to {order}; use non-negative dimensions")
    return Permute(*order)


def _scale(arguments: Arguments, keywords: Keywords) -> nn.Module:
    (factor,) = arguments
    if keywords or not isinstance(factor, int | float):
        raise NotUnderstood(f"by {factor!r}; only by a fixed number")
    return Scale(float(factor))


def _negated(arguments: Arguments, keywords: Keywords) -> nn.Module:
    _only(arguments, keywords)
    return Scale(-1.0)


def _quotient(arguments: Arguments, keywords: Keywords) -> nn.Module:
    (divisor,) = arguments
    power = (
        isinstance(divisor, int | float) and divisor != 0 and math.frexp(divisor)[0] in (0.5, -0.5)
    )
    if keywords or not power:
        raise NotUnderstood(f"by {divisor!r}; only by a power of two, whose inverse is exact")
    return Scale(1.0 / divisor)


def _leaky_relu(arguments: Arguments, keywords: Keywords) -> nn.Module:
    names = dict(zip(("negative_slope", "inplace"), arguments, strict=False)) | dict(keywords)
    if names.get("inplace", False):
        raise NotUnderstood("in place")
    return nn.LeakyReLU(names.get("negative_slope", 0.01))


def _gelu(arguments: Arguments, keywords: Keywords) -> nn.Module:
    _only(arguments, {k: v for k, v in keywords.items() if k != "approximate"})
    return nn.GELU(keywords.get("approximate", "none"))


def _identity(arguments: Arguments, keywords: Keywords) -> nn.Module:
    _only(arguments, keywords)
    return nn.Identity()


def _dropout(arguments: Arguments, keywords: Keywords) -> nn.Module:
    # Traced in eval mode: the traced graph is that of the network that is certified.
    return nn.Identity()


_CALLS: dict[object, Maker] = {
    torch.relu: _plain(nn.ReLU),
    F.relu: _plain(nn.ReLU),
    "relu": _plain(nn.ReLU),
    F.leaky_relu: _leaky_relu,
    torch.tanh: _plain(nn.Tanh),
    F.tanh: _plain(nn.Tanh),
    "tanh": _plain(nn.Tanh),
    torch.sigmoid: _plain(nn.Sigmoid),
    F.sigmoid: _plain(nn.Sigmoid),
    "sigmoid": _plain(nn.Sigmoid),
    F.silu: _plain(nn.SiLU),
    F.gelu: _gelu,
    F.softplus: _plain(nn.Softplus),
    F.softsign: _plain(nn.Softsign),
    F.elu: _plain(nn.ELU),
    F.hardtanh: _plain(nn.Hardtanh),
    F.relu6: _plain(nn.ReLU6),
    torch.flatten: _flatten,
    "flatten": _flatten,
    torch.reshape: _reshape,
    "reshape": _reshape,
    "view": _reshape,
    torch.permute: _permute,
    "permute": _permute,
    operator.mul: _scale,
    torch.mul: _scale,
    "contiguous": _identity,
    F.dropout: _dropout,
    torch.abs: _plain(Abs),
    "abs": _plain(Abs),
    abs: _plain(Abs),
    operator.abs: _plain(Abs),
    torch.neg: _negated,
    operator.neg: _negated,
    operator.truediv: _quotient,
}
