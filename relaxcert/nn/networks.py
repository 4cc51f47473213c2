"""Ready-made backbones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from relaxcert.errors import InvalidInput
from relaxcert.nn.layers import InputNormalisation, MinMax

ACTIVATIONS: dict[str, type[nn.Module]] = {"minmax": MinMax, "relu": nn.ReLU}


def dense(
    features: int,
    hidden: Sequence[int],
    num_classes: int,
    *,
    activation: str = "minmax",
    mean: float | None = None,
    std: float | None = None,
) -> nn.Sequential:
    """A dense network with orthogonal initialisation and zero biases, as in the paper's library.

    Args:
        features: size of the input; more than one dimension is flattened.
        hidden: width of each hidden layer, even for MinMax.
        num_classes: number of logits.
        activation: ``"minmax"`` (the paper's choice) or ``"relu"``.
        mean: with ``std``, normalise the input first by these two numbers.
        std: see ``mean``.

    Raises:
        InvalidInput: a size that is not positive, an odd width for MinMax, an unknown activation.
    """
    _check(features, hidden, num_classes, activation)
    layers: list[nn.Module] = []
    if mean is not None or std is not None:
        layers.append(InputNormalisation(mean or 0.0, 1.0 if std is None else std))
    layers.append(nn.Flatten())
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
