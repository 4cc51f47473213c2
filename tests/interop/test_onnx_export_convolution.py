"""Exported convolutions, pooling and normalisation: certified in onnxruntime implies certified."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from relaxcert.errors import UnsupportedLayer
from relaxcert.heads import GloRoNet
from relaxcert.interop import export_backbone, load_onnx
from relaxcert.interop.onnx_export import backbone, links
from relaxcert.interop.onnx_export.layers.windows import Windows
from relaxcert.nn import Residual
from relaxcert.nn.layers import MinMax
from relaxcert.spec import Local, RelaxedTopK
from tests.interop.exported import Exported, at_the_margin, violations
from tests.networks import linear, randn

IMAGE = (2, 6, 6)
SIGNAL = (2, 12)


def filled(layer: nn.Module, seed: int = 1) -> nn.Module:
    """Random weights, and statistics as after training."""
    with torch.no_grad():
        for place, (name, tensor) in enumerate(layer.state_dict().items()):
            if tensor.is_floating_point():
                value = randn(100 * seed + place, *tensor.shape).to(tensor.dtype)
                tensor.copy_(value.abs() + 0.3 if name.endswith("running_var") else value / 2)
    return layer.eval()


PADS = {"stride": 2, "padding": 2, "dilation": 2}
LAYERS = {
    "conv": (nn.Conv2d(2, 3, 3), IMAGE),
    "padded": (nn.Conv2d(2, 4, (3, 2), groups=2, **PADS), IMAGE),
    "same": (nn.Conv2d(2, 3, (2, 4), padding="same", bias=False), IMAGE),
    "circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), IMAGE),
    "one tap": (nn.Conv2d(2, 3, 1), IMAGE),
    "conv1d": (nn.Conv1d(2, 3, 3, **PADS), SIGNAL),
    "conv3d": (nn.Conv3d(1, 2, 2, padding=1), (1, 2, 3, 3)),
    "batch norm": (nn.BatchNorm2d(2), IMAGE),
    "batch norm, not affine": (nn.BatchNorm2d(2, affine=False), IMAGE),
    "batch norm of features": (nn.BatchNorm1d(4), (4,)),
    "batch norm of signals": (nn.BatchNorm1d(2), SIGNAL),
    "max": (nn.MaxPool2d(3, 2, padding=1), IMAGE),
    "max, dilation": (nn.MaxPool2d(2, 1, dilation=2), IMAGE),
    "max, ceil": (nn.MaxPool2d(4, 4, ceil_mode=True), IMAGE),
    "max1d": (nn.MaxPool1d(3, 2), SIGNAL),
    "global max": (nn.AdaptiveMaxPool2d(1), IMAGE),
    "average": (nn.AvgPool2d(3, 2, padding=1), IMAGE),
    "average, divisor": (nn.AvgPool2d(2, divisor_override=3), IMAGE),
    "average1d": (nn.AvgPool1d(3), SIGNAL),
    "adaptive": (nn.AdaptiveAvgPool2d((2, 3)), IMAGE),
    "global average": (nn.AdaptiveAvgPool2d(1), IMAGE),
    "leaky": (nn.LeakyReLU(0.3), IMAGE),
    "prelu": (nn.PReLU(2), IMAGE),
}
# The import has 2-D pooling only, and no ReduceMax, ReduceSum, Where or matrix times image.
NOT_READ_BACK = {"circular", "conv3d", "max, ceil", "max1d", "global max", "average, divisor"}
NOT_READ_BACK |= {"average1d", "prelu", "batch norm of features", "batch norm of signals"}


# torch warns once that an even kernel makes it pad on one side more.
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", LAYERS)
def test_layers(tmp_path, name):
    layer, shape = LAYERS[name]
    layer = filled(layer)
    inputs = randn(3, 100, *shape, dtype=torch.float32)
    count = layer(inputs[:1]).numel()
    network = nn.Sequential(
        layer, nn.Flatten(), linear(randn(1, 3, count) / 4, randn(2, 3), torch.float32)
    )
    net = GloRoNet(network, Local(eps=0.02), input_shape=shape).eval()
    exported = Exported(net)
    found, proved = exported(inputs), net.certify(inputs)
    torch.testing.assert_close(found.logits[:, :3].double(), proved.logits, rtol=1e-5, atol=1e-5)
    assert found.certified.any()
    assert not violations(found, proved).any()
    assert bool((found.certified == proved.certified)[proved.margin.abs() > 1e-3].all())
    assert exported(inputs[:0]).logits.shape == (0, 4)

    path = export_backbone(network, tmp_path / "backbone.onnx", input_shape=shape)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    alone = session.run(None, {"x": inputs.numpy()})[0]
    np.testing.assert_allclose(alone, proved.logits.numpy(), rtol=1e-4, atol=1e-5)
    if name not in NOT_READ_BACK:
        again = load_onnx(path)
        with torch.no_grad():
            torch.testing.assert_close(again(inputs), network(inputs), rtol=1e-5, atol=1e-5)


def layers(seed: int) -> nn.Sequential:
    """A small network with each of the new kinds of layer."""
    rest = [
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        Residual(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), MinMax())),
        nn.Conv2d(4, 6, 2, stride=2, groups=2),
        nn.ReLU(),
        nn.AvgPool2d(2, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    ]
    network = filled(nn.Sequential(*rest), seed)
    with torch.no_grad():
        network[-1].weight.mul_(20.0)
    return network


def network(name: str):
    """The network, and points of which about half are certified."""
    seed, norm = {"l2": (1, "l2"), "linf": (2, "linf"), "l1": (3, "l1")}[name]
    inputs = randn(seed, 200, 2, 8, 8, dtype=torch.float32)
    tiny = GloRoNet(layers(seed), RelaxedTopK(2, eps=1e-30, norm=norm))
    radius = tiny.eval().certify(inputs).radius
    eps = float(radius[radius > 0].median())
    return GloRoNet(layers(seed), RelaxedTopK(2, eps=eps, norm=norm)).eval(), inputs


# Margins that the file may lose, as a share of the largest logit (docs/formats.md).
LOST = {"l2": 1e-3, "linf": 1e-3, "l1": 0.06}


@pytest.mark.parametrize("name", ["l2", "linf", "l1"])
def test_points_at_the_margin(name, monkeypatch):
    net, inputs = network(name)
    edge = at_the_margin(net, inputs, steps=40)
    proved = net.certify(edge)
    assert proved.certified.any()
    assert not proved.certified.all()
    size = proved.logits.abs().amax(1)
    assert float((proved.margin.abs() < 1e-5 * size).double().mean()) > 0.4
    for optimised in (False, True):
        found = Exported(net, optimised=optimised)(edge)
        assert not violations(found, proved).any()
        assert torch.equal(found.logits.argmax(1) != 4, found.certified)
    with torch.no_grad():
        own = net.backbone(edge)
    torch.testing.assert_close(found.logits[:, :4], own, rtol=1e-4, atol=1e-4)
    # Hardly less than what is proved: all but what lies within rounding of the margin. In l1 the
    # roundings of all numbers add up, and are carried on by every column sum.
    away, found = net.certify(inputs), Exported(net)(inputs)
    clear = away.certified & (away.margin > LOST[name] * away.logits.abs().amax(1))
    assert clear.any()
    assert bool(found.certified[clear].all())
    eps = float(net.prop.balls[0].eps)
    assert float((away.radius - found.radius).max()) < 0.1 * eps

    # The test can fail: float32 alone certifies points that are not.
    monkeypatch.setattr(backbone, "gamma", lambda operations, unit: 0.0)
    monkeypatch.setattr(backbone, "UNIT", dict.fromkeys(backbone.UNIT, 0.0))
    monkeypatch.setattr(links, "_ANOTHER_PROOF", 1.0)
    assert violations(Exported(net)(edge), proved).any()


def test_float64_networks():
    net, inputs = network("l2")
    net, inputs = net.double(), inputs.double()
    edge = torch.cat((inputs, at_the_margin(net, inputs)))
    found, proved = Exported(net)(edge), net.certify(edge)
    assert found.certified.any()
    assert not violations(found, proved).any()


def test_matrix_products_are_the_only_operations_in_float32_that_round():
    net, _ = network("l2")
    kinds = {node.op_type for node in Exported(net, input_shape=(2, 8, 8)).model.graph.node}
    assert not kinds & {"Conv", "AveragePool", "GlobalAveragePool", "BatchNormalization"}
    assert not kinds & {"MaxPool", "LeakyRelu"}


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_windows_read_the_places_that_torch_reads(dims):
    """Against torch's own convolution, which picks out each tap in turn."""
    kernel, stride, dilation, left = (2, 3, 1)[:dims], (1, 2, 3)[:dims], (3, 1, 2)[:dims], 1
    size = (6, 5, 4)[:dims]
    conv = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)[dims - 1]
    taps = int(np.prod(kernel))
    picks = torch.eye(taps, dtype=torch.float64).view(taps, 1, *kernel)
    image = torch.arange(1, int(np.prod(size)) + 1, dtype=torch.float64).view(1, 1, *size)
    expected = conv(image, picks, stride=stride, padding=left, dilation=dilation)
    windows = Windows(kernel, stride, dilation, (left,) * dims)
    places = windows.places(size, tuple(expected.shape[2:]))
    assert torch.equal(places.double(), expected.view(taps, -1))


def test_parametrised_layers_are_written_with_the_numbers_that_they_are():
    conv = parametrizations.weight_norm(nn.Conv2d(2, 3, 3))
    network = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))
    net = GloRoNet(network, Local(eps=0.001), input_shape=IMAGE).eval()
    inputs = randn(3, 100, *IMAGE, dtype=torch.float32)
    found, proved = Exported(net)(inputs), net.certify(inputs)
    torch.testing.assert_close(found.logits[:, :3].double(), proved.logits, rtol=1e-5, atol=1e-5)
    assert found.certified.any()
    assert not violations(found, proved).any()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), "reflect"),
        (nn.ConvTranspose2d(2, 3, 3), "ConvTranspose2d"),
        (nn.AvgPool2d(3, padding=1, count_include_pad=False), "count_include_pad"),
        (nn.AdaptiveAvgPool2d(4), "different sizes"),
        (nn.AdaptiveMaxPool2d(2), "AdaptiveMaxPool2d"),
        (nn.BatchNorm2d(2, track_running_stats=False), "running statistics"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_refused(tmp_path, layer, message):
    count = layer(torch.zeros(1, *IMAGE)).numel()
    network = nn.Sequential(layer, nn.Flatten(), nn.Linear(count, 3))
    net = GloRoNet(network, Local(eps=0.1), input_shape=IMAGE).eval()
    with pytest.raises(UnsupportedLayer, match=message):
        net.export(tmp_path / "model.onnx")
    with pytest.raises(UnsupportedLayer, match=message):
        export_backbone(network, tmp_path / "backbone.onnx", input_shape=IMAGE)
    assert not list(tmp_path.iterdir())


def test_a_batch_norm_whose_scale_vanishes_is_refused():
    layer = nn.BatchNorm2d(2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 1e-300], dtype=torch.float64))
    network = nn.Sequential(layer, nn.Flatten(), nn.Linear(72, 3).double())
    net = GloRoNet(network, Local(eps=0.1), input_shape=IMAGE).eval()
    with pytest.raises(UnsupportedLayer, match="scales a channel"):
        Exported(net)
