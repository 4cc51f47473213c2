"""Cases 10 and 11: a pooling layer that is not 1-Lipschitz, a circle that is too small."""

from __future__ import annotations

import cmath
import math
from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.lipschitz.convolution import Convolution, spectral_norm
from tests.lipschitz.exact import at_least_spectral_norm, exact, exact_vector

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
