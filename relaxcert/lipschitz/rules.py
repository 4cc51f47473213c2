"""The rules of the layers that relaxcert knows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidWeights, UnsupportedLayer
from relaxcert.lipschitz.directed import tensor_up
from relaxcert.lipschitz.matrix import (
    ORDER,
    absolute_norm,
    checked_matrix,
    induced_norm,
    vector_norm_up,
)
from relaxcert.lipschitz.power import initial_iterate, spectral_norm_estimate
from relaxcert.lipschitz.registry import Bound, Rounding, Rule, rule
from relaxcert.nn.layers import InputNormalisation
from relaxcert.nn.orthogonal import OrthogonalLinear
from relaxcert.spec.ball import Norm

_METHODS: dict[Norm, str] = {
    "l2": "Cholesky-verified spectral norm",
    "linf": "largest absolute row sum",
    "l1": "largest absolute column sum",
}


@rule(nn.Linear)
class LinearRule(Rule[nn.Linear]):
    """W h + b: the induced norm of W."""

    def verified(self, layer: nn.Linear, norm: Norm) -> Bound:
        """l2: Cholesky-verified spectral norm; linf and l1: row and column sums, rounded up."""
        _checked_bias(layer)
        weight = checked_matrix(layer.weight, "weight of a Linear layer")
        return Bound(induced_norm(weight, norm), _METHODS[norm])

    def estimate(
        self, layer: nn.Linear, norm: Norm, iterate: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """l2: the power method from ``iterate``; linf and l1: the exact sums."""
        if norm == "l2" and iterate is not None:
            return spectral_norm_estimate(layer.weight, iterate)
        sums = layer.weight.abs().sum(1 if norm == "linf" else 0)
        return sums.amax(), None

    def rounding(self, layer: nn.Linear, norm: Norm) -> Rounding:
        """gamma_(n+1) (|| |W| || ||h|| + ||b||) for n products and the bias."""
        weight = checked_matrix(layer.weight, "weight of a Linear layer")
        bias = _checked_bias(layer)
        return Rounding(
            operations=layer.in_features + 1,
            input_gain=absolute_norm(weight, norm),
            offset=0.0 if bias is None else vector_norm_up(bias, ORDER[norm]),
        )

    def initial_iterate(self, layer: nn.Linear) -> Tensor:
        """A unit vector in the layer's input space."""
        return initial_iterate(layer.in_features)


@rule(OrthogonalLinear)
class OrthogonalLinearRule(Rule[OrthogonalLinear]):
    """Trains with the exact constant 1; cannot be certified as it stands."""

    def verified(self, layer: OrthogonalLinear, norm: Norm) -> Bound:
        """Refused: the weight is the rounded value of a formula, not a stored number."""
        raise UnsupportedLayer(
            "OrthogonalLinear computes its weight with rounding, so its bound is known only "
            "approximately: certify GloRoNet(relaxcert.nn.baked(backbone), prop), which holds the "
            "same numbers as plain nn.Linear layers."
        )

    def estimate(
        self, layer: OrthogonalLinear, norm: Norm, iterate: Tensor | None
    ) -> tuple[Tensor | float, None]:
        """l2: 1, by construction; linf and l1: the sums."""
        if norm == "l2":
            return 1.0, None
        return layer.weight.abs().sum(1 if norm == "linf" else 0).amax(), None

    def rounding(self, layer: OrthogonalLinear, norm: Norm) -> Rounding:
        """Never reached: ``verified`` refuses."""
        return Rounding(operations=layer.in_features + 1, input_gain=math.inf)


@rule(InputNormalisation)
class InputNormalisationRule(Rule[InputNormalisation]):
    """(x - mean) / std: a diagonal map, max 1/std in every norm."""

    def verified(self, layer: InputNormalisation, norm: Norm) -> Bound:
        """max 1/std, rounded up."""
        checked_matrix(layer.mean, "mean of InputNormalisation")
        std = checked_matrix(layer.std, "std of InputNormalisation")
        if not bool((std > 0).all()):
            raise InvalidWeights(
                f"std of InputNormalisation has a smallest entry of {float(std.min())}: every "
                "entry must be greater than 0."
            )
        return Bound(float(tensor_up(1.0 / std).max()), "max 1/std")

    def estimate(
        self, layer: InputNormalisation, norm: Norm, iterate: Tensor | None
    ) -> tuple[Tensor, None]:
        """max 1/std."""
        return (1.0 / layer.std).amax(), None

    def rounding(self, layer: InputNormalisation, norm: Norm) -> Rounding:
        """One subtraction and one division: relative error gamma_2 of the exact output.

        gamma_3 of the computed one is more. Underflow of the subtraction is impossible, and that of
        the division at most eta.
        """
        # x - mean is std times the result.
        std = checked_matrix(layer.std, "std of InputNormalisation")
        return Rounding(3, output_gain=1.0, intermediate=max(1.0, float(std.max()) * 2.0))


def pairs_of_any_map(num_classes: int, norm: Norm) -> Tensor:
    """D[j, i] for networks whose last layer is not linear, so that no rows can be compared."""
    return constant_of_any_map(norm) * (1.0 - torch.eye(num_classes, dtype=torch.float64))


def constant_of_any_map(norm: Norm) -> float:
    """The constant of z -> z_j - z_i itself: sqrt(2), 2, 1 for l2, linf, l1; rounded up."""
    return {"l2": math.nextafter(math.sqrt(2.0), 2.0), "linf": 2.0, "l1": 1.0}[norm]


def _checked_bias(layer: nn.Linear) -> Tensor | None:
    # A bias of torch's Linear may be None although its annotation does not say so.
    bias: Tensor | None = getattr(layer, "bias", None)
    return None if bias is None else checked_matrix(bias, "bias of a Linear layer")
