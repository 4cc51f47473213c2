"""The architectures that recipes can name, each with the form in which it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from relaxcert.training.forms import in_plain_form, in_training_form
from relaxcert.training.recipe import Architecture, Optimisation


@dataclass(frozen=True)
class Listed:
    """One architecture.

    Attributes:
        title: what it is, on one line.
        architecture: its table in a recipe.
        optimisation: the settings of a recipe that say in which form it is trained.
    """

    title: str
    architecture: Architecture
    optimisation: Optimisation = field(default_factory=Optimisation)

    def build(self, shape: Sequence[int], num_classes: int, seed: int = 0) -> nn.Module:
        """Plain layers with the weights from which training starts.

        Raises:
            InvalidInput: a shape that does not fit.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = self.architecture.build(shape, num_classes)
            return in_plain_form(in_training_form(backbone, self.optimisation))


ARCHITECTURES: dict[str, Listed] = {
    "dense": Listed("three dense layers of 256, MinMax", Architecture(hidden=[256] * 3)),
    "dense-orthogonal": Listed(
        "the same, orthogonal by the Cayley transform",
        Architecture(hidden=[256] * 3),
        Optimisation(orthogonal=True),
    ),
    "dense-acasxu": Listed("the paper's for ACAS Xu", Architecture(hidden=[1000] * 3)),
    "conv": Listed("the paper's for CIFAR-100 and EuroSAT", Architecture(kind="conv")),
    "deep-conv": Listed("the paper's for Tiny-ImageNet", Architecture(kind="deep-conv")),
    "liresnet": Listed("linear residual blocks", Architecture(kind="liresnet")),
    "liresnet-modern": Listed(
        "the same; AOL convolutions, orthogonal dense, normalised last layer",
        Architecture(kind="liresnet"),
        Optimisation(orthogonal=True, convolutions="almost-orthogonal", last_layer="normalised"),
    ),
}
