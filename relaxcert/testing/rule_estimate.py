"""The estimate of a rule: below the verified bound, near the truth, with the right gradient."""

from __future__ import annotations

import copy
from math import prod

import torch
from torch import Tensor, nn

from relaxcert.lipschitz.matrix import ORDER
from relaxcert.lipschitz.registry import Rounding
from relaxcert.spec.ball import Norm
from relaxcert.testing.rule_case import RuleCase, jacobian, matrix_norm, rule_of
from relaxcert.testing.running import require

_ITERATIONS = 400
_UNIT, _TINY = 2.0**-24, 2.0**-149  # unit roundoff and smallest denormal of float32


class RuleEstimate(RuleCase):
    """Checks of ``estimate`` and ``rounding``."""

    def first_iterate(self, layer: nn.Module) -> Tensor | None:
        """Where the estimate starts, in float64 as the layer."""
        iterate = rule_of(layer, self.input_shape).initial_iterate(layer)
        return None if iterate is None else iterate.double()

    def converged(self, layer: nn.Module, norm: Norm) -> Tensor:
        """The estimate after many calls, each from the iterate of the one before."""
        rule = rule_of(layer, self.input_shape)
        iterate = self.first_iterate(layer)
        value: Tensor | float = 0.0
        for _ in range(_ITERATIONS):
            value, following = rule.estimate(layer, norm, iterate)
            if following is None:
                break
            iterate = following.detach()
        return torch.as_tensor(value, dtype=torch.float64)

    def test_the_estimate_never_exceeds_the_verified_bound(self) -> None:
        """From the first call on, up to float rounding; and it comes near what the layer does."""
        for layer, norm, bound in self.cases():
            rule, iterate = rule_of(layer, self.input_shape), self.first_iterate(layer)
            for _ in range(5):
                value, iterate = rule.estimate(layer, norm, iterate)
                early = float(torch.as_tensor(value).detach())
                require(
                    early <= bound * (1.0 + 1e-6),
                    f"the estimate of {layer} in {norm} is {early}, above the bound {bound}.",
                )
            reached = max(matrix_norm(jacobian(layer, p), norm) for p in self.inputs(2, seed=11))
            final = float(self.converged(layer, norm).detach())
            require(
                0.9 * reached <= final <= bound * (1.0 + 1e-6),
                f"the estimate of {layer} in {norm} converges to {final}, but the layer stretches "
                f"by {reached} and its bound is {bound}.",
            )

    def test_the_gradient_of_the_estimate_is_right(self) -> None:
        """Against central differences of the converged estimate along a random direction."""
        for layer, norm, _ in self.cases():
            weights = [p for p in layer.parameters() if p.requires_grad]
            value = self.converged(layer, norm)
            if not weights or not value.requires_grad:
                continue
            gradients = _gradients(value, weights)
            generator = torch.Generator().manual_seed(17)
            moves = [
                torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in weights
            ]
            along = sum(float((g * m).sum()) for g, m in zip(gradients, moves, strict=True))
            step = 1e-5
            higher, lower = (
                float(self.converged(_moved(layer, moves, sign * step), norm).detach())
                for sign in (1.0, -1.0)
            )
            measured = (higher - lower) / (2.0 * step)
            require(
                abs(measured - along) <= 1e-3 * (1.0 + abs(measured)),
                f"the gradient of the estimate of {layer} in {norm} is {along} along a direction "
                f"in which the estimate really changes by {measured}.",
            )

    def test_zero_weights_give_finite_estimates_and_gradients(self) -> None:
        """No NaN where a network starts from, or is pruned to, zero."""
        layer = self.layer(self.seeds[0])
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.zero_()
        for norm in self.supported_norms(layer):
            value = self.converged(layer, norm)
            require(bool(value.isfinite()), f"zero weights of {layer} give the estimate {value}.")
            weights = [p for p in layer.parameters() if p.requires_grad]
            if weights and value.requires_grad:
                for gradient in _gradients(value, weights):
                    require(
                        bool(gradient.isfinite().all()),
                        f"zero weights of {layer} give a gradient that is not finite in {norm}.",
                    )

    def test_the_rounding_terms_cover_float32(self) -> None:
        """The layer in float32 against itself in float64, on the same numbers, at three scales."""
        for seed in self.seeds:
            single = self.layer(seed, torch.float32)
            double = copy.deepcopy(single).double()
            for norm in self.supported_norms(double):
                rounding = rule_of(double, self.input_shape).rounding(double, norm)
                for scale in (1.0, 1e4, 1e-4):
                    hidden = scale * self.inputs(16, seed=23, dtype=torch.float32)
                    self._check_rounding(single, double, hidden, rounding, norm)

    def _check_rounding(
        self, single: nn.Module, double: nn.Module, hidden: Tensor, rounding: Rounding, norm: Norm
    ) -> None:
        with torch.no_grad():
            computed, true = single(hidden), double(hidden.double())
        order = ORDER[norm]
        error = _norms(computed.double() - true, order)
        if rounding.operations == 0:
            require(
                not bool(error.any()),
                f"{single} rounds in float32, but its rule says that it rounds nothing.",
            )
            return
        allowed = _allowed(rounding, hidden.double(), computed.double(), order)
        require(
            bool((error <= allowed).all()),
            f"{single} rounds by up to {float(error.max())} in float32 ({norm}), but the terms of "
            f"its rule allow {float(allowed[error.argmax()])}.",
        )


def _allowed(rounding: Rounding, hidden: Tensor, output: Tensor, order: float) -> Tensor:
    """gamma_n (input_gain ||h|| + output_gain ||z|| + offset) + n eta ||ones||; (batch,)."""
    n = rounding.operations
    gamma = n * _UNIT / (1.0 - n * _UNIT)
    places = 1 if rounding.offset_is_total else prod(output.shape[1:-1])
    total = rounding.offset * places
    if rounding.input_gain:
        total = total + rounding.input_gain * _norms(hidden, order)
    if rounding.output_gain:
        total = total + rounding.output_gain * _norms(output, order)
    ones = _norms(torch.ones_like(output), order)
    # Float64 rounds as well; its share is far below the factor here.
    return (gamma * total + n * _TINY * ones) * (1.0 + 1e-6)


def _gradients(value: Tensor, weights: list[nn.Parameter]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)


def _norms(values: Tensor, order: float) -> Tensor:
    return torch.linalg.vector_norm(values.flatten(1), order, dim=1)


def _moved(layer: nn.Module, moves: list[Tensor], step: float) -> nn.Module:
    other = copy.deepcopy(layer)
    weights = [p for p in other.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter, move in zip(weights, moves, strict=True):
            parameter.add_(step * move)
    return other
