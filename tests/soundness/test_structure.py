"""Cases 10 and 11: a pooling layer that is not 1-Lipschitz, a circle that is too small."""

from __future__ import annotations

import cmath
import math
from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.lipschitz import Bound, registry
from relaxcert.lipschitz.convolution import Convolution, spectral_norm
from tests.lipschitz.exact import Vector, affine, at_least_spectral_norm, exact, exact_vector
from tests.networks import linear
from tests.soundness import naive
from tests.soundness.exactly import (
    Refutation,
    length_up,
    moved,
    radius,
    sound_and_not_vacuous,
)

WINDOW = 3
KERNEL = (0.0, 1.0, -1.0)  # y_q = x_q - x_(q+1), with a zero beyond the end
SIZE = 3


def difference_layer() -> nn.Conv1d:
    layer = nn.Conv1d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[list(KERNEL)]]))
    return layer.double()


def circular_norm(kernel: tuple[float, ...], size: int) -> float:
    """The usual way: the largest |DFT| of the kernel on a circle as long as the input."""
    turns = [cmath.exp(2j * math.pi * w / size) for w in range(size)]
    return max(abs(sum(k * turn**j for j, k in enumerate(kernel))) for turn in turns)


def test_case_11_circular_embedding_with_m_equal_to_n():
    """sqrt(3) on the circle of 3; the zero-padded map has 2 cos(pi / 7) = 1.802."""
    layer = difference_layer()
    claimed = circular_norm(KERNEL, SIZE)
    assert claimed == pytest.approx(math.sqrt(3))

    # Exactly: a rational x that the map stretches by more than the claim.
    with torch.no_grad():
        dense = layer(torch.eye(3, dtype=torch.float64)[:, None]).flatten(1).T
    _, _, right = torch.linalg.svd(dense)
    stretched = exact_vector(right[0])
    image = [sum(w * v for w, v in zip(row, stretched, strict=True)) for row in exact(dense)]
    gain = sum(v * v for v in image) / sum(v * v for v in stretched)
    assert gain > Fraction(claimed) ** 2 * Fraction(108, 100)

    assert not at_least_spectral_norm(claimed, dense)
    truth = 2 * math.cos(math.pi / 7)
    for tight in (False, True):
        bound = spectral_norm(Convolution.of(layer, (SIZE,)), tight=tight).value
        assert at_least_spectral_norm(bound, dense)
        assert bound <= truth * (1.01 if tight else 1.12)


def overlapping_windows() -> Refutation:
    """One bright pixel in all three windows: each step down moves three outputs.

    f_0 - f_1 = 3 x_2 - 3/2 near the point, which flips at 1/2; with 1 for the pooling, K is
    sqrt(3) in place of 3, and radius 0.866 is claimed.
    """
    last = linear([[1, 1, 1], [0, 0, 0]], [-1.5, 0])
    backbone = nn.Sequential(nn.MaxPool1d(WINDOW, stride=1), nn.Flatten(), last).float()

    def function(inputs: Vector) -> Vector:
        pooled = [max(inputs[i : i + WINDOW]) for i in range(len(inputs) - WINDOW + 1)]
        return affine(last, pooled)

    step = Fraction(1, 2) + Fraction(1, 10**6)
    zero = Fraction(0)
    other = [zero, zero, 1 - step, zero, zero]
    point = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]])
    return Refutation(backbone, point, other, step, function)


def test_case_10_overlapping_max_pooling():
    case = overlapping_windows()
    claimed = naive.local_radius(case.backbone, case.point, naive.power_method(50))
    assert claimed > 1.7 * case.eps
    assert sound_and_not_vacuous(case) == []


def test_pooling_as_a_non_expansive_layer_would_be_found(monkeypatch):
    monkeypatch.setitem(registry._RULES, nn.MaxPool1d, registry._RULES[nn.ReLU])
    assert len(sound_and_not_vacuous(overlapping_windows())) == 2


def convolution_then_linear() -> Refutation:
    """The last layer reads what the convolution stretches most; flips at 1 / 1.802."""
    layer = difference_layer()
    with torch.no_grad():
        dense = layer(torch.eye(3, dtype=torch.float64)[:, None]).flatten(1).T
    left, sizes, right = torch.linalg.svd(dense)
    last = linear(torch.stack([left[:, 0], torch.zeros(3, dtype=torch.float64)]))
    backbone = nn.Sequential(layer, nn.Flatten(), last).float()
    point = (right[0] / sizes[0]).float()

    def function(inputs: Vector) -> Vector:
        convolved = [a - b for a, b in zip(inputs, [*inputs[1:], Fraction(0)], strict=True)]
        return affine(last, convolved)

    step = (1 + 1e-5) / float(sizes[0])
    other, eps = moved(point, right[0], step), length_up(right[0], step)
    return Refutation(backbone, point[None], other, eps, function)


def test_case_11_through_a_network():
    case = convolution_then_linear()
    with torch.no_grad():
        logits = case.backbone(case.point[None])[0]
    claimed = float(logits[0] - logits[1]) / circular_norm(KERNEL, SIZE)
    assert claimed > 1.04 * case.eps
    assert sound_and_not_vacuous(case) == []


def test_a_circle_as_long_as_the_input_would_be_found(monkeypatch):
    class Circular(type(registry._RULES[nn.Conv1d])):
        def verified(self, layer, norm):
            return Bound(circular_norm(KERNEL, SIZE), "circle of 3")

    monkeypatch.setitem(registry._RULES, nn.Conv1d, Circular())
    case = convolution_then_linear()
    assert radius(case.backbone, case.point) > case.eps
    assert len(sound_and_not_vacuous(case)) == 2
