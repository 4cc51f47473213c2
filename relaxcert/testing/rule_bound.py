"""The verified bound of a rule against what the layer really does to distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from math import prod
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from relaxcert.errors import InvalidWeights
from relaxcert.lipschitz.matrix import ORDER
from relaxcert.lipschitz.registry import Rule
from relaxcert.spec.ball import Norm
from relaxcert.testing.exact import at_least_induced_norm, tensor_of
from relaxcert.testing.rule_case import (
    ROUNDED,
    RuleCase,
    bound_of,
    jacobian,
    matrix_norm,
    rule_of,
)
from relaxcert.testing.running import for_all, refuses, require
from relaxcert.testing.sampling import directions
from relaxcert.testing.strategies.points import exact_points

_EXACT_SIDE = 12  # the smaller side of matrices that are judged over the rationals
_GRID = 2.0**30  # weights that are multiples of 1/_GRID, and small, are exact in float64


class RuleBound(RuleCase):
    """Checks of ``verified``."""

    def exact_constant(self, layer: nn.Module, norm: Norm) -> float | None:
        """The true Lipschitz constant where you know it, else None.

        Affine layers need no answer: their matrix is found and judged in exact arithmetic.
        """
        del layer, norm
        return None

    def test_no_two_points_move_apart_faster_than_the_bound(self) -> None:
        """||f(h) - f(h')|| <= bound ||h - h'|| for drawn points, and close ones around them."""
        size = prod(self.input_shape)
        layers = {seed: self.layer(seed) for seed in self.seeds}
        norms = self.supported_norms(layers[self.seeds[0]])
        seeds = st.sampled_from(list(self.seeds))

        @for_all(seeds, exact_points(size), exact_points(size), st.sampled_from(norms))
        def slow(seed: int, start: Sequence[Fraction], end: Sequence[Fraction], norm: Norm) -> None:
            bound = bound_of(layers[seed], self.input_shape, norm)
            ends = torch.stack([tensor_of(start), tensor_of(end)])
            self._check_ratios(layers[seed], ends[:1], ends[1:], norm, bound)

        del slow

    def test_no_direction_is_stretched_more_than_the_bound(self) -> None:
        """Axes, corners, random directions and the steepest ones, far and near."""
        for layer, norm, bound in self.cases():
            points = self.inputs(2, seed=5)
            for point in points:
                rows = jacobian(layer, point)
                moves = directions(norm, rows.shape[1], 7, rows)
                start = point.flatten()[None]
                for scale in (1.0, 2.0**-10):
                    self._check_ratios(layer, start, start + scale * moves, norm, bound)

    def test_the_bound_is_at_least_every_singular_value(self) -> None:
        """The induced norm of the Jacobian (l2: its largest singular value) at generic points."""
        for layer, norm, bound in self.cases():
            for point in self.inputs(4, seed=11):
                reached = matrix_norm(jacobian(layer, point), norm)
                require(
                    reached <= bound * ROUNDED,
                    f"{layer} stretches by {reached} in {norm} near {point.flatten().tolist()}, "
                    f"but its bound is {bound}.",
                )

    def test_the_bound_is_at_least_the_exact_value(self) -> None:
        """Affine layers with dyadic weights: W is found column by column and judged exactly."""
        for seed in self.seeds:
            layer = _with_short_weights(self.layer(seed))
            matrix = affine_matrix(layer, self.input_shape)
            for norm in self.supported_norms(layer):
                bound = bound_of(layer, self.input_shape, norm)
                known = self.exact_constant(layer, norm)
                require(
                    known is None or bound >= known,
                    f"the bound of {layer} in {norm} is {bound}, below its constant {known}.",
                )
                if matrix is not None and min(matrix.shape) <= _EXACT_SIDE:
                    require(
                        at_least_induced_norm(bound, matrix, norm),
                        f"the bound of {layer} in {norm} is {bound!r}, below the exact norm of "
                        f"its matrix (about {matrix_norm(matrix, norm)!r}).",
                    )

    def test_weights_that_are_not_finite_have_no_bound(self) -> None:
        """NaN and infinity in any parameter raise InvalidWeights (or ``rounding`` does)."""
        for bad in (math.nan, math.inf):
            layer = self.layer(self.seeds[0])
            norm = self.supported_norms(layer)[0]
            proved = partial(_proved, rule_of(layer, self.input_shape), layer, norm)
            for name, parameter in layer.named_parameters():
                kept = parameter.detach().clone()
                with torch.no_grad():
                    parameter.view(-1)[0] = bad
                refuses(InvalidWeights, proved, f"{name} of {layer} holds {bad}")
                with torch.no_grad():
                    parameter.copy_(kept)

    def _check_ratios(
        self, layer: nn.Module, start: Tensor, ends: Tensor, norm: Norm, bound: float
    ) -> None:
        """start (1, n) and ends (m, n), flat."""
        with torch.no_grad():
            images = layer(torch.cat([start, ends]).reshape(-1, *self.input_shape)).flatten(1)
        order = ORDER[norm]
        moved = torch.linalg.vector_norm(images[1:] - images[:1], order, dim=1)
        step = torch.linalg.vector_norm(ends - start, order, dim=1)
        # What rounding may add: relative to the sizes that were subtracted.
        doubt = 1e-13 * (1.0 + torch.linalg.vector_norm(images, order, dim=1).max())
        excess = moved - (bound * step * ROUNDED + doubt)
        worst = int(excess.argmax())
        require(
            bool(excess[worst] <= 0.0),
            f"{layer} moves {start.flatten().tolist()} and {ends[worst].tolist()} apart by "
            f"{float(moved[worst])} from {float(step[worst])} in {norm}, but its bound is {bound}.",
        )


def _proved(rule: Rule[Any], layer: nn.Module, norm: Norm) -> object:
    return rule.verified(layer, norm), rule.rounding(layer, norm)


def affine_matrix(layer: nn.Module, shape: tuple[int, ...]) -> Tensor | None:
    """The matrix of a layer that is affine with exact short weights, (outputs, inputs), or None."""
    size = prod(shape)
    generator = torch.Generator().manual_seed(3)
    probes = torch.randint(-8, 9, (6, size), generator=generator).double()
    with torch.no_grad():
        zero = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten(1)
        columns = layer(torch.eye(size, dtype=torch.float64).reshape(size, *shape)).flatten(1)
        images = layer(probes.reshape(-1, *shape)).flatten(1)
    matrix = (columns - zero).mT
    exact = bool((matrix * _GRID == (matrix * _GRID).round()).all())
    # All numbers are short, so these products and sums are exact.
    affine = torch.equal(probes @ matrix.mT + zero, images)
    return matrix if exact and affine and bool(matrix.abs().max() < 2.0**10) else None


def _with_short_weights(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_((parameter * 8).round() / 8)
    return layer
