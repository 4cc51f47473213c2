"""Orthogonal dense layers by the Cayley transform: gradient norms survive any depth.

For a square matrix, A = M - M^T is skew-symmetric and Q = (I + A)^-1 (I - A) is orthogonal
(Cayley 1846; for networks: Trockman & Kolter, ICLR 2021). For a tall or
wide one, with M = [U; V], U square:

    A = U - U^T + V^T V,    Q = [(I + A)^-1 (I - A); -2 V (I + A)^-1],    Q^T Q = I
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OrthogonalLinear(nn.Module):
    """A linear layer whose weight has orthonormal rows or columns; a drop-in for nn.Linear.

    For training only: the weight is a function of ``free``, computed with rounding, so a
    certificate needs :func:`baked`, which turns it into an nn.Linear with the numbers themselves.

    Shape: (batch, in_features) -> (batch, out_features).
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        tall, narrow = max(in_features, out_features), min(in_features, out_features)
        free = torch.empty(tall, narrow)
        nn.init.orthogonal_(free)
        self.free = nn.Parameter(free)
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @property
    def weight(self) -> Tensor:
        """(out_features, in_features), orthonormal rows or columns up to rounding.

        Autocast does not reach it: only its product with the input may be of reduced precision.
        """
        with plain_arithmetic(self.free.device.type):
            tall = cayley(self.free)
        return tall if self.out_features >= self.in_features else tall.mT

    def forward(self, inputs: Tensor) -> Tensor:
        """Q x + b."""
        return F.linear(inputs, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


def cayley(free: Tensor) -> Tensor:
    """Map any (tall, narrow) matrix to one with orthonormal columns; differentiable."""
    narrow = free.shape[1]
    square, below = free[:narrow], free[narrow:]
    skew = square - square.mT + below.mT @ below
    identity = torch.eye(narrow, dtype=free.dtype, device=free.device)
    inverse = torch.linalg.inv(identity + skew)
    return torch.cat((inverse @ (identity - skew), -2.0 * below @ inverse))


def plain_arithmetic(device_type: str) -> AbstractContextManager[object]:
    """A context without autocast on devices of this type, for weights that are computed."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def orthogonalised(backbone: nn.Module) -> nn.Module:
    """A copy in which every nn.Linear but the last is an OrthogonalLinear with fresh weights."""
    twin = copy.deepcopy(backbone)
    linear = [(path, m) for path, m in twin.named_modules() if type(m) is nn.Linear]
    for path, layer in linear[:-1]:
        # Linear's annotation of bias denies that it may be None.
        bias: Tensor | None = getattr(layer, "bias", None)
        fresh = OrthogonalLinear(layer.in_features, layer.out_features, bias=bias is not None)
        parent, _, name = path.rpartition(".")
        setattr(twin.get_submodule(parent), name, fresh.to(layer.weight))
    return twin


def baked(backbone: nn.Module) -> nn.Module:
    """A copy in which every OrthogonalLinear is an nn.Linear with the same numbers."""
    plain = copy.deepcopy(backbone)
    for path, layer in list(plain.named_modules()):
        if not isinstance(layer, OrthogonalLinear):
            continue
        # Without initial values, which would be drawn from torch's global generator.
        sizes = layer.in_features, layer.out_features
        linear = nn.Linear(*sizes, bias=layer.bias is not None, device="meta")
        linear = linear.to_empty(device=layer.free.device).to(layer.free.dtype)
        with torch.no_grad():
            linear.weight.copy_(layer.weight)
            if layer.bias is not None:
                linear.bias.copy_(layer.bias)
        parent, _, name = path.rpartition(".")
        if not path:
            return linear
        setattr(plain.get_submodule(parent), name, linear)
    return plain
