"""The layer under test, and lower bounds of what it does to distances."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from relaxcert.errors import UnsupportedLayer
from relaxcert.lipschitz.registry import Rule, rule_for
from relaxcert.spec.ball import NORMS, Norm
from relaxcert.testing.running import ConformanceFailure, require

ROUNDED = 1.0 + 1e-9  # what float64 may add to a ratio that is computed with it


class RuleCase:
    """The layer under test and what the suite must know of it.

    Attributes:
        input_shape: shape of one input, without the batch; a small one, so that exact arithmetic
            is possible.
        norms: the norms to test; one that the rule refuses with UnsupportedLayer is left out, but
            not all of them.
        seeds: ``make_layer`` is called after each of these seeds.
    """

    input_shape: ClassVar[tuple[int, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = NORMS
    seeds: ClassVar[tuple[int, ...]] = (0, 1, 2)

    def make_layer(self) -> nn.Module:
        """A new layer with weights as they come from torch's present seed."""
        raise ConformanceFailure(f"{type(self).__name__} must define make_layer().")

    def layer(self, seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The layer of a seed in eval mode."""
        require(self.input_shape, f"{type(self).__name__} must set input_shape = (...).")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.make_layer().to(dtype).eval()

    def cases(self) -> Iterator[tuple[nn.Module, Norm, float]]:
        """Every layer and norm with its verified bound."""
        for seed in self.seeds:
            layer = self.layer(seed)
            for norm in self.supported_norms(layer):
                yield layer, norm, bound_of(layer, self.input_shape, norm)

    def supported_norms(self, layer: nn.Module) -> list[Norm]:
        """The norms in which the rule gives a bound."""
        found: list[Norm] = []
        for norm in self.norms:
            try:
                bound_of(layer, self.input_shape, norm)
            except UnsupportedLayer:
                continue
            found.append(norm)
        require(found, f"the rule of {type(layer).__name__} refuses every norm of {self.norms}.")
        return found

    def inputs(self, count: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Gaussian inputs, (count, *input_shape)."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(count, *self.input_shape, generator=generator, dtype=torch.float64)
        return drawn.to(dtype)


def rule_of(layer: nn.Module, shape: tuple[int, ...]) -> Rule[Any]:
    """The registered rule, for inputs of this shape.

    Raises:
        UnsupportedLayer: there is none.
    """
    return rule_for(layer, "").at(shape)


def bound_of(layer: nn.Module, shape: tuple[int, ...], norm: Norm) -> float:
    """The verified bound of a float64 layer in eval mode."""
    bound = rule_of(layer, shape).verified(layer, norm)
    require(bound.method.strip(), f"the bound of {layer} does not say by which method.")
    require(bound.value >= 0.0, f"the bound of {layer} in {norm} is {bound.value}, expected >= 0.")
    return bound.value


def jacobian(layer: nn.Module, point: Tensor) -> Tensor:
    """The Jacobian at one input, (*input_shape); (outputs, inputs)."""

    def flat(values: Tensor) -> Tensor:
        return layer(values.reshape(point.shape)[None]).flatten()

    found = torch.autograd.functional.jacobian(flat, point.flatten())
    return found.detach().reshape(-1, prod(point.shape))


def matrix_norm(matrix: Tensor, norm: Norm) -> float:
    """The induced norm as float64 computes it: an untrusted value, right to about 1e-13."""
    match norm:
        case "l2":
            return float(torch.linalg.matrix_norm(matrix, 2))
        case "linf":
            return float(matrix.abs().sum(1).max())
        case "l1":
            return float(matrix.abs().sum(0).max())
