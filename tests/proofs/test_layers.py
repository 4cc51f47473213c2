"""Layers as the checker computes them, against torch; sizes and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from flint import ctx
from torch import nn

from relaxcert import checker
from relaxcert.checker import layers as checkers_layers
from relaxcert.checker.layers import KINDS
from relaxcert.checker.network import logits_of, reaches_of, steps_of
from relaxcert.errors import UnsupportedLayer
from relaxcert.nn.architecture import describe
from relaxcert.nn.blocks import Concatenation, Residual
from relaxcert.nn.elementwise import Abs
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.nn.shapes import GroupSort, InvertibleDownsampling
from relaxcert.proofs import check_provable, segments
from tests.networks import randn

CONVOLUTIONS = [
    (nn.Conv1d(2, 4, 3), (2, 7)),
    (nn.Conv1d(2, 4, 2, stride=2, padding=1, dilation=3), (2, 8)),
    (nn.Conv2d(4, 6, 3, padding=1), (4, 5, 5)),
    (nn.Conv2d(4, 6, (2, 3), stride=(2, 1), padding=(0, 2), groups=2), (4, 5, 4)),
    (nn.Conv2d(6, 6, 3, groups=6, bias=False), (6, 4, 4)),
    (nn.Conv2d(1, 2, 4, stride=3), (1, 4, 4)),
    (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 4)),
    (nn.Conv2d(2, 3, (5, 3), padding="same", dilation=(1, 2)), (2, 6, 7)),
    (nn.Conv2d(2, 3, 4, padding="same", padding_mode="circular"), (2, 6, 5)),
    (nn.Conv1d(2, 3, 3, padding="valid"), (2, 6)),
    (nn.Conv3d(2, 2, 2, padding=1, stride=2), (2, 3, 4, 2)),
]
OTHERS = [
    (nn.AvgPool1d(3, stride=2, padding=1), (2, 7)),
    (nn.AvgPool2d((3, 2), stride=1), (2, 5, 4)),
    (nn.AvgPool3d(2), (1, 4, 2, 2)),
    (nn.AdaptiveAvgPool2d(1), (3, 5, 4)),
    (nn.AdaptiveAvgPool1d(2), (2, 6)),
    (nn.AdaptiveAvgPool3d((1, 2, 1)), (2, 3, 4, 2)),
    (nn.MaxPool1d(3, stride=1, padding=1, dilation=2), (2, 7)),
    (nn.MaxPool2d(3, stride=2, padding=1), (2, 5, 6)),
    (nn.MaxPool3d(2), (2, 2, 4, 2)),
    (nn.BatchNorm1d(4), (4,)),
    (nn.BatchNorm1d(4, affine=False), (4, 3)),
    (nn.BatchNorm2d(2, eps=1e-2), (2, 3, 3)),
    (InputNormalisation(torch.tensor([[[0.1]], [[0.2]]]), torch.tensor(0.3)), (2, 3, 2)),
    (InvertibleDownsampling(), (2, 4, 6)),
    (MinMax(), (4, 2, 2)),
    (GroupSort(3), (6, 2)),
    (nn.ReLU(), (4,)),
    (nn.ReLU6(), (4,)),
    (Abs(), (4,)),
    (nn.LeakyReLU(0.2), (4,)),
    (nn.LeakyReLU(-1.5), (4,)),
    (nn.Tanh(), (4,)),
    (nn.Sigmoid(), (4,)),
    (nn.Dropout2d(0.5), (2, 2, 2)),
    (Residual(nn.Sequential(nn.Linear(4, 4), nn.ReLU())), (4,)),
    (Concatenation(nn.Conv2d(2, 3, 1), nn.Identity(), nn.AvgPool2d(1)), (2, 3, 3)),
]


def prepared(layer: nn.Module, seed: int = 0) -> nn.Module:
    """With random numbers everywhere, in float64; on points that reach every piece."""
    layer = layer.double().eval()
    for place, (name, tensor) in enumerate(sorted(layer.state_dict().items())):
        if tensor.is_floating_point() and name != "std":
            tensor.copy_(randn(seed + place, *tensor.shape))
        if "var" in name:
            tensor.abs_()
    return layer


def as_data(module: nn.Module) -> tuple[dict, dict[str, np.ndarray]]:
    described = json.loads(json.dumps(describe(module)))
    return described, {name: value.numpy() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(("layer", "shape"), [*CONVOLUTIONS, *OTHERS], ids=repr)
def test_layers_are_torchs(layer, shape):
    whole = nn.Sequential(prepared(layer), nn.Flatten())
    points = 4 * randn(1, 3, *shape)
    with torch.no_grad():
        truth = whole(points)
    with ctx.workprec(192):
        steps, classes = steps_of(*as_data(whole), shape)
        found = [[float(value.mid()) for value in row] for row in logits_of(steps, points.numpy())]
    assert classes == truth.shape[1]
    assert np.allclose(found, truth.numpy(), rtol=1e-13, atol=1e-12)


def test_every_kind_is_compared_and_described_alike_on_both_sides():
    """The checker's list of layers, the writer's list, and what the test above covers."""
    compared = {type(layer).__name__ for layer, _ in (*CONVOLUTIONS, *OTHERS)}
    needless = {"Linear", "Flatten", "Identity", "Dropout", "Dropout1d", "Dropout3d", "BatchNorm3d"}
    assert compared | needless == {*KINDS, "Residual", "Concatenation"}
    assert set(segments._KNOWN) == set(KINDS)
    for layer, _ in (*CONVOLUTIONS, *OTHERS):
        check_provable(nn.Sequential(layer))


@pytest.mark.parametrize(
    ("layer", "fields", "said"),
    [
        (nn.Conv2d(4, 6, 3), {"padding_mode": "reflect"}, "circularly only"),
        (nn.Conv2d(4, 6, 3), {"padding": "other"}, "is not 2 numbers"),
        (nn.Conv2d(4, 6, 3), {"padding": [1]}, "is not 2 numbers"),
        (nn.Conv2d(4, 6, 3), {"stride": [0, 1]}, "out of range"),
        (nn.Conv2d(4, 6, 3), {"dilation": [1, -1]}, "out of range"),
        (nn.Conv2d(4, 6, 3), {"padding": [2**40, 0]}, "out of range"),
        (nn.Conv2d(4, 6, 3), {"padding": [2000, 2000]}, "entries"),
        (nn.Conv2d(4, 6, 3), {"padding": [100, 100]}, "entries"),
        (nn.Conv2d(4, 6, 3), {"dilation": [9, 9]}, "empty"),
        (nn.Conv2d(4, 6, 3), {"groups": 0}, "does not fit"),
        (nn.Conv2d(4, 6, 3), {"groups": True}, "does not fit"),
        (nn.Conv2d(4, 6, 3), {"groups": 4}, "does not fit"),
        (nn.Conv2d(4, 6, 3), {"kind": "Conv1d"}, "does not fit"),
        (nn.Conv2d(4, 6, 7, padding=3, padding_mode="circular"), {}, "meets a place twice"),
        (nn.Conv2d(4, 6, 3), {"padding_mode": "circular", "padding": 6}, "longer than"),
        (nn.MaxPool2d(2), {"ceil_mode": True}, "ceil_mode"),
        (nn.MaxPool2d(2), {"padding": 4, "kernel_size": 3}, "nothing but padding"),
        (nn.AvgPool2d(2, padding=1), {"count_include_pad": False}, "size of the kernel"),
        (nn.AvgPool2d(2), {"divisor_override": 3}, "size of the kernel"),
        (nn.AdaptiveAvgPool2d(2), {}, "does not divide"),
        (GroupSort(3), {}, "no groups of 3"),
        (GroupSort(2), {"size": 1}, "no groups of 1"),
        (InvertibleDownsampling(), {}, "even height"),
        (nn.BatchNorm2d(4), {"eps": "1"}, "do not fit"),
        (nn.BatchNorm2d(4), {"eps": -2.0}, "not positive"),
        (nn.BatchNorm2d(3), {}, "do not fit"),
        (nn.LeakyReLU(0.1), {"negative_slope": "x"}, "slope"),
        (nn.Flatten(), {"start": 2}, "Flatten"),
        (nn.GELU(), {}, "does not know"),
    ],
    ids=repr,
)
def test_what_is_not_understood_is_refused(layer, fields, said):
    described, tensors = as_data(nn.Sequential(layer, nn.Flatten()))
    described["children"]["0"] |= fields
    with pytest.raises(checker.Unreadable, match=said):
        steps_of(described, tensors, (4, 5, 5))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten()), (4, 5)),
        (nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten()), (3, 5, 5)),
        (nn.Conv2d(4, 6, 3), (4, 5, 5)),
        (nn.Linear(4, 3), (2, 4)),
        (nn.Linear(4, 3), (5,)),
        (nn.Sequential(MinMax(), nn.Flatten()), (3, 2)),
        (InputNormalisation(torch.zeros(3), torch.ones(3)), (4,)),
        (InputNormalisation(torch.zeros(2, 4), torch.ones(1)), (4,)),
        (nn.ReLU(), (1,)),
        (Residual(nn.Linear(4, 3)), (4,)),
        (Concatenation(nn.AvgPool1d(2), nn.Identity()), (2, 4)),
    ],
    ids=repr,
)
def test_points_that_do_not_fit_are_refused(module, shape):
    with pytest.raises(checker.Unreadable):
        steps_of(*as_data(module), shape)


def test_numbers_that_are_missing_left_over_or_odd_are_refused():
    described, tensors = as_data(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)))
    changes = [
        ("0.bias", None),
        ("0.bias", np.zeros(2)),
        ("0.weight", np.full((3, 4), np.nan)),
        ("0.weight", np.zeros((3, 4), np.int64)),
        ("1.num_batches_tracked", None),
        ("1.running_var", np.array([-1.0, 1.0, 1.0])),
        ("other", np.zeros(2)),
    ]
    for name, value in changes:
        changed = {key: kept for key, kept in tensors.items() if key != name}
        changed |= {} if value is None else {name: value}
        with pytest.raises(checker.Unreadable):
            steps_of(described, changed, (4,))


def test_writer_and_checker_have_the_same_limit():
    assert segments._MOST_ENTRIES == checkers_layers.MOST_ENTRIES


@pytest.mark.parametrize(
    "layer", [nn.GELU(), nn.ConvTranspose2d(1, 1, 2), nn.MaxPool2d(2, ceil_mode=True),
              nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")], ids=repr,
)  # fmt: skip
def test_the_writer_refuses_what_the_checker_does_not_know(layer):
    with pytest.raises(UnsupportedLayer, match="no proof file can speak"):
        check_provable(nn.Sequential(nn.Identity(), layer))


def test_two_layers_of_one_path_do_not_share_a_bound():
    """Names with dots, which relaxcert never writes: the second map is 5 times the first."""
    pool = describe(nn.AvgPool1d(1))
    layers = {
        "x": {"kind": "Sequential", "children": {"y": pool}},
        "1": describe(nn.ReLU()),
        "2": describe(nn.Conv1d(1, 1, 1, bias=False)),
        "x.y": pool,
        "4": describe(nn.ReLU()),
        "5": describe(nn.Flatten()),
    }
    described = json.loads(json.dumps({"kind": "Sequential", "children": layers}))
    steps, _ = steps_of(described, {"2.weight": np.full((1, 1, 1), 5.0)}, (1, 3))
    bounds = {("l2", "x.y"): {"bound": 1.0, "exponent": 0, "factor": None}}
    with ctx.workprec(192), pytest.raises(checker.Rejected, match=r"1\.0 is not proved"):
        reaches_of(steps, bounds, ["l2"], 3)
    bounds["l2", "x.y"]["bound"] = 5.0
    with ctx.workprec(192):
        assert float(reaches_of(steps, bounds, ["l2"], 3)["l2"].product) == 25.0


def test_points_without_a_shape_are_refused():
    with pytest.raises(checker.Unreadable, match="one number a point"):
        steps_of(*as_data(nn.Linear(4, 3)), ())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.MaxPool2d(3, 1, 1), (3, 4)),
        (nn.AvgPool2d(3, 1, 1), (3, 4)),
        (nn.AdaptiveAvgPool2d(2), (2, 4)),
        (nn.MaxPool1d(3, 1, 1), (4,)),
        (nn.MaxPool1d(2), (2, 4, 4)),
        (nn.MaxPool2d(1), (2, 2, 2, 2)),
    ],
)
def test_pooling_takes_points_of_its_own_dimensions_only(layer, shape):
    """torch takes the batch for the channels there: another function, of the same shape."""
    with pytest.raises(checker.Unreadable, match="dimensions"):
        KINDS[type(layer).__name__](checkers_layers.Layer("0", describe(layer), {}, shape))
