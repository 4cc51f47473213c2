"""Weights that are computed from free ones while a network is trained.

Each is a parametrisation for ``torch.nn.utils.parametrize``: the layer keeps its type for the rules
of :mod:`relaxcert.lipschitz`, whose estimates see the computed weight. No theorem about a computed
weight is ever used to certify: ``relaxcert.lipschitz.materialised`` stores the numbers, whose norm
is then proved like that of any other layer, rounding and all.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from relaxcert.nn.blocks import Residual
from relaxcert.nn.orthogonal import plain_arithmetic

_LEAST = 1e-12  # of what is divided by


class AlmostOrthogonal(nn.Module):
    """A convolution's kernel rescaled to a norm of at most 1, near orthogonal once trained (AOL).

    Prach & Lampert, *Almost-Orthogonal Layers*, ECCV 2022. With K[o, i] the taps from input channel
    i to output channel o and * the correlation over positions,

        t_i = sum over channels j and shifts s of |(sum over o of K[o, i] * K[o, j])[s]|
        K'[o, i] = K[o, i] / sqrt(t_i),        || K' || <= 1

    for stride 1 and zero padding; strides leave outputs out, so the bound stays. The bound is loose
    at first (||K'|| of 0.5 is usual) and training tightens it. Chosen before SLL (Araujo et al.,
    ICLR 2023), whose block x - 2 W D s(W^T x + b) is 1-Lipschitz as a whole but not by the norms of
    its parts, so that nothing but the theorem, which knows no rounding, would prove it.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """(outputs, inputs, ...) -> the same shape; autocast does not reach it."""
        with plain_arithmetic(weight.device.type):
            dims = weight.dim() - 2
            correlate = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dims]
            taps = weight.transpose(0, 1)
            padding = tuple(size - 1 for size in weight.shape[2:])
            overlaps = correlate(taps, taps, padding=padding)
            total = overlaps.abs().flatten(1).sum(1).clamp_min(_LEAST)
            return weight * total.rsqrt().reshape(1, -1, *[1] * dims)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The free kernel that a given one starts from: itself."""
        return weight


class NormalisedRows(nn.Module):
    """Rows of length 1: w_i / ||w_i||, the normalised last layer of LiResNet.

    Hu, Leino, Wang, Fredrikson, *A Recipe for Improved Certifiable Robustness*, ICLR 2024, and
    *Unlocking Deterministic Robustness Certification on ImageNet*, NeurIPS 2023. A class cannot win
    by a longer row, so rare classes keep their distances ||w_i - w_j|| <= 2.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """(classes, features) -> the same shape; autocast does not reach it."""
        with plain_arithmetic(weight.device.type):
            length = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
            return weight / length.clamp_min(_LEAST)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The free rows that given ones start from: themselves."""
        return weight


def almost_orthogonal(backbone: nn.Module) -> nn.Module:
    """A copy in which plain convolutions are trained as AlmostOrthogonal.

    Those inside a :class:`Residual` stay free: its sum is bounded as one map in any case, and 1 + 1
    would be the best that the theorem knows of it. Grouped ones stay free too.
    """
    twin = copy.deepcopy(backbone)
    blocks = [block for block in twin.modules() if isinstance(block, Residual)]
    inside = {id(layer) for block in blocks for layer in block.modules()}
    convolutions = [
        layer
        for layer in twin.modules()
        if type(layer) in (nn.Conv1d, nn.Conv2d, nn.Conv3d) and id(layer) not in inside
    ]
    for layer in convolutions:
        if getattr(layer, "groups", 1) == 1:
            parametrize.register_parametrization(layer, "weight", AlmostOrthogonal())
    return twin


def normalised_last(backbone: nn.Module) -> nn.Module:
    """A copy in which the last nn.Linear is trained with NormalisedRows."""
    twin = copy.deepcopy(backbone)
    linear = [layer for layer in twin.modules() if type(layer) is nn.Linear]
    if linear:
        parametrize.register_parametrization(linear[-1], "weight", NormalisedRows())
    return twin
