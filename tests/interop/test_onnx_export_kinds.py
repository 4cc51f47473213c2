"""Every kind of layer that the exporter writes: onnxruntime beside torch, with and without head."""

from __future__ import annotations

from collections.abc import Callable

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from relaxcert.heads import GloRoNet
from relaxcert.interop.onnx_export import export_backbone
from relaxcert.interop.onnx_export.registry import _EMITTERS
from relaxcert.nn.elementwise import Abs, Diagonal
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.nn.rearrange import Rearrange
from relaxcert.nn.shapes import (
    GroupSort,
    InvertibleDownsampling,
    Part,
    Permute,
    Reshape,
    Scale,
)
from relaxcert.spec import Local
from tests.interop.exported import Exported, violations
from tests.networks import randn

FLAT, LINE, PLANE, SPACE = (8,), (4, 6), (4, 4, 4), (2, 4, 4, 4)


def normalising(layer: nn.Module) -> nn.Module:
    """A BatchNorm that does something."""
    features = layer.num_features
    layer.running_mean.copy_(randn(1, features))
    layer.running_var.copy_(randn(2, features).abs() + 0.3)
    layer.weight.data.copy_(randn(3, features))
    layer.bias.data.copy_(randn(4, features))
    return layer


# For each kind a layer and the shape of the points that it takes.
CASES: dict[type[nn.Module], tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    Abs: (Abs, FLAT),
    Diagonal: (lambda: Diagonal(randn(5, 8).float()), FLAT),
    nn.Dropout: (lambda: nn.Dropout(0.5), FLAT),
    nn.Dropout1d: (lambda: nn.Dropout1d(0.5), LINE),
    nn.Dropout2d: (lambda: nn.Dropout2d(0.5), PLANE),
    nn.Dropout3d: (lambda: nn.Dropout3d(0.5), SPACE),
    nn.Identity: (nn.Identity, FLAT),
    nn.Linear: (lambda: nn.Linear(8, 5), FLAT),
    nn.ReLU: (nn.ReLU, FLAT),
    nn.LeakyReLU: (lambda: nn.LeakyReLU(0.1), FLAT),
    nn.PReLU: (lambda: nn.PReLU(4, 0.3), PLANE),
    MinMax: (MinMax, FLAT),
    GroupSort: (lambda: GroupSort(4), FLAT),
    InputNormalisation: (
        lambda: InputNormalisation(randn(6, 8), randn(7, 8).abs() + 0.5),
        FLAT,
    ),
    Scale: (lambda: Scale(0.7), FLAT),
    Reshape: (lambda: Reshape(2, 4), FLAT),
    Permute: (lambda: Permute(0, 3, 1, 2), PLANE),
    Part: (lambda: Part(1, 2, 1), PLANE),
    Rearrange: (lambda: Rearrange(torch.tensor([[3, 0, 3], [7, 1, 2]]), 8), FLAT),
    nn.Flatten: (nn.Flatten, PLANE),
    nn.Unflatten: (lambda: nn.Unflatten(1, (2, 4)), FLAT),
    nn.PixelShuffle: (lambda: nn.PixelShuffle(2), PLANE),
    nn.PixelUnshuffle: (lambda: nn.PixelUnshuffle(2), PLANE),
    nn.ChannelShuffle: (lambda: nn.ChannelShuffle(2), PLANE),
    InvertibleDownsampling: (InvertibleDownsampling, PLANE),
    nn.Conv1d: (lambda: nn.Conv1d(4, 3, 3, padding=1, stride=2), LINE),
    nn.Conv2d: (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2), PLANE),
    nn.Conv3d: (lambda: nn.Conv3d(2, 3, 2, dilation=2), SPACE),
    nn.MaxPool1d: (lambda: nn.MaxPool1d(2), LINE),
    nn.MaxPool2d: (lambda: nn.MaxPool2d(3, stride=2, padding=1), PLANE),
    nn.MaxPool3d: (lambda: nn.MaxPool3d(2), SPACE),
    nn.AvgPool1d: (lambda: nn.AvgPool1d(3, stride=3), LINE),
    nn.AvgPool2d: (lambda: nn.AvgPool2d(2), PLANE),
    nn.AvgPool3d: (lambda: nn.AvgPool3d(2), SPACE),
    nn.AdaptiveAvgPool1d: (lambda: nn.AdaptiveAvgPool1d(3), LINE),
    nn.AdaptiveAvgPool2d: (lambda: nn.AdaptiveAvgPool2d(2), PLANE),
    nn.AdaptiveAvgPool3d: (lambda: nn.AdaptiveAvgPool3d(2), SPACE),
    nn.AdaptiveMaxPool1d: (lambda: nn.AdaptiveMaxPool1d(1), LINE),
    nn.AdaptiveMaxPool2d: (lambda: nn.AdaptiveMaxPool2d(1), PLANE),
    nn.AdaptiveMaxPool3d: (lambda: nn.AdaptiveMaxPool3d(1), SPACE),
    nn.BatchNorm1d: (lambda: normalising(nn.BatchNorm1d(8)), FLAT),
    nn.BatchNorm2d: (lambda: normalising(nn.BatchNorm2d(4)), PLANE),
    nn.BatchNorm3d: (lambda: normalising(nn.BatchNorm3d(2)), SPACE),
}


def test_no_kind_is_without_a_case():
    assert set(CASES) == set(_EMITTERS)


def network(kind: type[nn.Module]) -> tuple[nn.Sequential, tuple[int, ...]]:
    """The layer between others: numbers that an average of one sign would hide are mixed."""
    make, shape = CASES[kind]
    torch.manual_seed(len(kind.__name__))
    layer = make().eval()
    with torch.no_grad():
        features = layer(torch.zeros(1, *shape)).numel()
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(features, 3)).eval(), shape


def points(shape: tuple[int, ...], count: int = 200) -> Tensor:
    return randn(9, count, *shape).float() * 2


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_the_backbone_computes_what_torch_does(kind, tmp_path):
    backbone, shape = network(kind)
    path = export_backbone(backbone, tmp_path / "net.onnx", input_shape=shape)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = points(shape)
    (found,) = session.run(None, {"x": inputs.numpy()})
    with torch.no_grad():
        expected = backbone(inputs)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)
    # Not one number of the layer is lost or moved: the outputs depend on the points.
    assert float(expected.std(0).min()) > 1e-3


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_certified_in_the_file_is_certified(kind, norm):
    backbone, shape = network(kind)
    inputs = points(shape)
    wide = GloRoNet(backbone, Local(eps="0.01", norm=norm), input_shape=shape).eval()
    radius = wide.certify(inputs).radius
    eps = float(radius[radius > 0].median())
    net = GloRoNet(backbone, Local(eps=eps, norm=norm), input_shape=shape).eval()
    exported = Exported(net)
    found, proved = exported(inputs), net.certify(inputs)
    assert not violations(found, proved).any()
    assert int(found.certified.sum()) >= 0.9 * int(proved.certified.sum()) > 0
