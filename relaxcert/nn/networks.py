"""Ready-made backbones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from relaxcert.errors import InvalidInput
from relaxcert.nn.layers import InputNormalisation, MinMax

ACTIVATIONS: dict[str, type[nn.Module]] = {"minmax": MinMax, "relu": nn.ReLU}


def dense(
    features: int,
    hidden: Sequence[int],
    num_classes: int,
    *,
    activation: str = "minmax",
    mean: float | Sequence[float] | None = None,
    std: float | None = None,
) -> nn.Sequential:
    """A dense network with orthogonal initialisation and zero biases, as in the paper's library.

    Args:
        features: size of the input; more than one dimension is flattened.
        hidden: width of each hidden layer, even for MinMax.
        num_classes: number of logits.
        activation: ``"minmax"`` (the paper's choice) or ``"relu"``.
        mean: subtract this from the flattened input first; several numbers are repeated over the
            features (for instance one a band of pixel-major patches).
        std: divide by this afterwards.

    Raises:
        InvalidInput: a size that is not positive, an odd width for MinMax, an unknown activation.
    """
    _check(features, hidden, num_classes, activation)
    layers: list[nn.Module] = [nn.Flatten()]
    if mean is not None or std is not None:
        layers.append(InputNormalisation(_repeated(mean, features), 1.0 if std is None else std))
    widths = [features, *hidden]
    for before, after in pairwise(widths):
        layers += [_linear(before, after), ACTIVATIONS[activation]()]
    layers.append(_linear(widths[-1], num_classes))
    return nn.Sequential(*layers)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _repeated(mean: float | Sequence[float] | None, features: int) -> Tensor:
    numbers = torch.tensor(0.0 if mean is None else mean)
    if numbers.dim() == 0:
        return numbers
    if len(numbers) == 0 or features % len(numbers):
        raise InvalidInput(
            f"mean has {len(numbers)} numbers, which do not repeat over {features} features: give "
            "one number, or a divisor of the features."
        )
    return numbers.repeat(features // len(numbers))


def _check(features: int, hidden: Sequence[int], num_classes: int, activation: str) -> None:
    for name, size in [("features", features), *(("hidden", h) for h in hidden)]:
        if size < 1:
            raise InvalidInput(f"{name}={size} must be at least 1.")
    if num_classes < 2:
        raise InvalidInput(f"num_classes={num_classes} must be at least 2.")
    if activation not in ACTIVATIONS:
        raise InvalidInput(f"activation={activation!r} must be one of {', '.join(ACTIVATIONS)}.")
    odd = [width for width in hidden if activation == "minmax" and width % 2]
    if odd:
        raise InvalidInput(f"hidden={list(hidden)} holds {odd[0]}: MinMax needs even widths.")
