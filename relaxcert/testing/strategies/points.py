"""Strategies for points: inputs, labelled data sets, and the telling points of a ball."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from relaxcert.spec.ball import Ball
from relaxcert.testing.exact import exact_vector, longest_step, tensor_of
from relaxcert.testing.lines import kinks_on_line
from relaxcert.testing.strategies.backbones import dyadic_weights

Point = tuple[Fraction, ...]


def exact_points(features: int, *, largest: int = 16) -> st.SearchStrategy[Point]:
    """Inputs whose coordinates are eighths between -largest/8 and largest/8; shrinks to zeros."""
    eighth = st.integers(-largest, largest).map(lambda n: Fraction(n, 8))
    return st.lists(eighth, min_size=features, max_size=features).map(tuple)


@st.composite
def perturbations(
    draw: st.DrawFn, ball: Ball, centre: Sequence[Fraction], *, network: nn.Module | None = None
) -> Point:
    """Points x' of the ball around ``centre``, exact and exactly inside it.

    They lie on the sphere in a random direction, at corners and on the axes, inside the ball, and,
    with a ``network`` that has an exact evaluation, along the gradient of a difference of two
    logits and where a ReLU or MinMax of it has a kink. Shrinks to x itself.
    """
    makers: list[Callable[..., list[Fraction]]] = [_random, _axis, _corner]
    direction: list[Fraction]
    kind = draw(st.sampled_from(["inside", "sphere"] + ["kink"] * (network is not None)))
    place = draw(st.integers(0, len(makers) - 1 + (network is not None)))
    if place < len(makers):
        direction = makers[place](draw, len(centre))
    else:
        direction = _steepest(draw, network, ball, centre)
    reach = longest_step(ball, direction)
    step = reach
    if kind == "inside":
        step = reach * Fraction(draw(st.integers(0, 16)), 16)
    elif kind == "kink" and network is not None:
        kinks = kinks_on_line(network, centre, direction, -reach, reach)
        step = draw(st.sampled_from(kinks)) if kinks else reach
    return tuple(x + step * d for x, d in zip(centre, direction, strict=True))


def _random(draw: st.DrawFn, features: int) -> list[Fraction]:
    steps = st.lists(st.integers(-8, 8), min_size=features, max_size=features)
    return list(map(Fraction, draw(steps)))


def _axis(draw: st.DrawFn, features: int) -> list[Fraction]:
    chosen, sign = draw(st.integers(0, features - 1)), draw(st.sampled_from([1, -1]))
    return [Fraction(sign * (place == chosen)) for place in range(features)]


def _corner(draw: st.DrawFn, features: int) -> list[Fraction]:
    signs = st.lists(st.sampled_from([1, -1]), min_size=features, max_size=features)
    return list(map(Fraction, draw(signs)))


def _steepest(
    draw: st.DrawFn, network: Any, ball: Ball, centre: Sequence[Fraction]
) -> list[Fraction]:
    """The direction in which f_i - f_j of two drawn classes grows fastest, in the ball's norm."""
    point = tensor_of(centre).requires_grad_()
    weight = next(network.parameters(), point)
    logits = network(point.to(weight.dtype)[None])[0]
    labels = st.integers(0, len(logits) - 1)
    (gradient,) = torch.autograd.grad(logits[draw(labels)] - logits[draw(labels)], point)
    slopes = exact_vector(gradient)
    match ball.norm:
        case "l2":
            return slopes
        case "linf":
            return [Fraction((slope > 0) - (slope < 0)) for slope in slopes]
        case "l1":
            largest = max(range(len(slopes)), key=lambda place: abs(slopes[place]))
            return [
                slope if place == largest else Fraction(0) for place, slope in enumerate(slopes)
            ]


@dataclass(frozen=True)
class Dataset:
    """Points, (points, *shape), with labels, (points,)."""

    inputs: Tensor
    labels: Tensor


@st.composite
def datasets(
    draw: st.DrawFn,
    features: int | tuple[int, ...],
    num_classes: int,
    *,
    max_points: int = 6,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Labelled data of one to ``max_points`` points; points, and labels of equal ones, may repeat.

    Coordinates are quarters, exact in every floating type.
    """
    shape = (features,) if isinstance(features, int) else tuple(features)
    count = draw(st.integers(1, max_points))
    inputs = draw(dyadic_weights(count, prod(shape), dtype=dtype)).reshape(count, *shape)
    labels = draw(st.lists(st.integers(0, num_classes - 1), min_size=count, max_size=count))
    return Dataset(inputs, torch.tensor(labels))
