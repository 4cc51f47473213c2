"""Convolutions as the checker unrolls them, against what torch computes; sizes and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flint import ctx
from torch import nn

from relaxcert import checker
from relaxcert.checker import lowering
from relaxcert.checker.lowering import lowered
from relaxcert.checker.model import Layer
from relaxcert.checker.network import logits_of
from relaxcert.errors import UnsupportedLayer
from relaxcert.nn.layers import MinMax
from relaxcert.proofs import chain
from relaxcert.proofs.chain import matrices_of
from tests.networks import randn

FLATTEN = Layer("1", "Flatten", {})
CONFIGURATIONS = [
    (nn.Conv1d, (2, 4, 3), (7,), {}),
    (nn.Conv1d, (2, 4, 2), (8,), {"stride": 2, "padding": 1, "dilation": 3}),
    (nn.Conv2d, (4, 6, 3), (5, 5), {"padding": 1}),
    (nn.Conv2d, (4, 6, (2, 3)), (5, 4), {"stride": (2, 1), "padding": (0, 2), "groups": 2}),
    (nn.Conv2d, (6, 6, 3), (4, 4), {"groups": 6, "bias": False}),
    (nn.Conv2d, (1, 2, 4), (4, 4), {"stride": 3}),
    (nn.Conv3d, (2, 2, 2), (3, 4, 2), {"padding": 1, "stride": 2}),
]


def as_data(layer: nn.Module) -> Layer:
    numbers = {name: value.numpy() for name, value in layer.state_dict().items()}
    names = ("stride", "padding", "dilation")
    fields = {name: list(getattr(layer, name)) for name in names}
    fields |= {"groups": layer.groups, "padding_mode": layer.padding_mode}
    return Layer("0", type(layer).__name__, numbers, fields)


@pytest.mark.parametrize(("kind", "sizes", "shape", "options"), CONFIGURATIONS)
def test_unrolled_convolutions_are_torchs(kind, sizes, shape, options):
    torch.manual_seed(0)
    layer = kind(*sizes, **options).double()
    (dense, *_), classes = lowered([as_data(layer), FLATTEN], (sizes[0], *shape))
    points = randn(1, 3, sizes[0], *shape)
    with torch.no_grad():
        truth = layer(points).flatten(1)
    found = points.flatten(1).numpy() @ dense.numbers["weight"].T + dense.numbers["bias"]
    assert classes == truth.shape[1]
    assert np.allclose(found, truth.numpy(), atol=1e-12)
    # Entry by entry the same matrix as the writer's, by a way of its own.
    assert np.array_equal(dense.numbers["weight"], matrices_of(layer, points[:1])[""].numpy())


def test_elementwise_layers_on_images():
    points = randn(3, 2, 4, 2, 2)
    for layer, data in (
        (nn.LeakyReLU(0.2), Layer("0", "LeakyReLU", {}, {"negative_slope": 0.2})),
        (nn.LeakyReLU(-0.5), Layer("0", "LeakyReLU", {}, {"negative_slope": -0.5})),
        (nn.ReLU(), Layer("0", "ReLU", {})),
        (MinMax(), Layer("0", "MinMax", {})),
    ):
        layers, classes = lowered([data, FLATTEN], (4, 2, 2))
        with ctx.workprec(192):
            rows = logits_of(layers, points.numpy())
        assert classes == 16
        assert np.allclose(
            [[float(value.mid()) for value in row] for row in rows],
            layer(points).flatten(1).numpy(),
            rtol=1e-15,
        )
        with ctx.workprec(192):
            absolute = logits_of(lowered([Layer("0", "Abs", {}), FLATTEN], (4, 2, 2))[0],
                                 points.numpy())  # fmt: skip
        assert float(absolute[0][0]) == float(points.abs().flatten()[0])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"padding_mode": "circular"}, "zeros only"),
        ({"padding": "same"}, "is not 2 numbers"),
        ({"padding": [1]}, "is not 2 numbers"),
        ({"stride": [0, 1]}, "out of range"),
        ({"dilation": [1, -1]}, "out of range"),
        ({"padding": [2**40, 0]}, "out of range"),
        ({"padding": [2000, 2000]}, "entries"),
        ({"dilation": [9, 9]}, "empty"),
        ({"groups": 0}, "does not fit"),
        ({"groups": True}, "does not fit"),
        ({"groups": 4}, "does not fit"),
    ],
    ids=str,
)
def test_what_is_not_understood_is_refused(fields, said):
    data = as_data(nn.Conv2d(4, 6, 3))
    changed = Layer("0", data.kind, data.numbers, {**data.fields, **fields})
    with pytest.raises(checker.Unreadable, match=said):
        lowered([changed, FLATTEN], (4, 5, 5))


def test_points_that_do_not_fit_are_refused():
    conv, dense = as_data(nn.Conv2d(4, 6, 3)), Layer("0", "Linear", {"weight": np.ones((3, 4))})
    for layers, shape in (
        ([conv, FLATTEN], (4, 5)),
        ([conv, FLATTEN], (3, 5, 5)),
        ([conv], (4, 5, 5)),
        ([dense], (2, 4)),
        ([dense], (5,)),
        ([Layer("0", "MinMax", {}), FLATTEN], (3, 2)),
        ([Layer("0", "InputNormalisation", {"mean": np.ones(3), "std": np.ones(3)})], (4,)),
        ([Layer("0", "InputNormalisation", {"mean": np.ones((2, 4)), "std": np.ones(1)})], (4,)),
        ([Layer("0", "ReLU", {})], (1,)),
    ):
        with pytest.raises(checker.Unreadable):
            lowered(layers, shape)


def test_writer_and_checker_have_the_same_limit():
    assert chain._MOST_ENTRIES == lowering.MOST_ENTRIES
    conv = nn.Conv2d(16, 16, 3, padding=1)
    with pytest.raises(UnsupportedLayer, match="more than"):
        matrices_of(nn.Sequential(conv), torch.zeros(1, 16, 32, 32))
