"""What an exported file holds, where it is written, and what cannot be exported."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from relaxcert.errors import InvalidInput, InvalidWeights, UnsupportedLayer, UnsupportedPrecision
from relaxcert.heads import GloRoNet
from relaxcert.interop import export_backbone, load_onnx
from relaxcert.nn.elementwise import Abs, Diagonal
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.nn.rearrange import Rearrange
from relaxcert.nn.shapes import GroupSort, InvertibleDownsampling, Part, Permute, Reshape, Scale
from relaxcert.spec import Local, RelaxedTopK
from relaxcert.spec.canonical import from_canonical
from tests.interop.exported import Exported, violations
from tests.networks import linear, randn, random_backbone


def net() -> GloRoNet:
    return GloRoNet(random_backbone(1), RelaxedTopK(2, eps="3/100")).eval()


def test_the_file_says_what_it_proves(tmp_path):
    network = net()
    path = network.export(tmp_path / "model.onnx", class_names=["a", "b", "c", "d"])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert from_canonical(metadata["property"]) == network.prop
    assert metadata["digest"] == network.digest
    assert metadata["weights_sha256"] == network.verify().fingerprint
    assert json.loads(metadata["class_names"]) == ["a", "b", "c", "d"]
    assert (metadata["format"], metadata["level"]) == ("relaxcert-onnx", "R")
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("x", ["batch", 4], "tensor(float)")
    ]
    assert [(o.name, o.shape, o.type) for o in session.get_outputs()] == [
        ("logits", ["batch", 5], "tensor(float)"),
        ("certified", ["batch"], "tensor(bool)"),
        ("k", ["batch"], "tensor(int64)"),
        ("set", ["batch", 4], "tensor(bool)"),
        ("radius", ["batch"], "tensor(double)"),
    ]


def test_the_same_network_gives_the_same_file(tmp_path):
    one, other = net().export(tmp_path / "one.onnx"), net().export(tmp_path / "other.onnx")
    assert one.read_bytes() == other.read_bytes()


def test_bounds_are_those_of_the_present_weights(tmp_path):
    network = net()
    before = network.export(tmp_path / "model.onnx").read_bytes()
    with torch.no_grad():
        network.backbone[1].weight.data.mul_(2.0)
    inputs = randn(1, 300, 4, dtype=torch.float32)
    assert network.export(tmp_path / "model.onnx").read_bytes() != before
    assert not violations(Exported(network)(inputs), network.certify(inputs)).any()


@pytest.mark.parametrize(
    ("backbone", "settings", "error", "message"),
    [
        (random_backbone(1), {"class_names": ["a"]}, InvalidInput, "1 names, expected 4"),
        (random_backbone(1), {"input_shape": (0,)}, InvalidInput, "positive sizes"),
        (
            nn.Sequential(Reshape(4), linear(randn(1, 4, 4))),
            {"input_shape": (5,)},
            InvalidInput,
            "fit",
        ),
        (nn.Sequential(nn.ReLU6(), linear(randn(1, 4, 4))), {}, UnsupportedLayer, "0 is a ReLU6"),
        (random_backbone(1).half(), {}, UnsupportedPrecision, "float16"),
        (nn.Sequential(linear([[torch.nan], [1.0]])), {}, InvalidWeights, "NaN"),
        (
            nn.Sequential(linear([[1e300, 1e300]] * 2), linear([[1e300, 0.0], [0.0, 0.0]])),
            {},
            InvalidInput,
            "infinite",
        ),
        (
            nn.Sequential(linear(randn(1, 4, 4)), linear(randn(1, 4, 4), dtype=torch.float32)),
            {},
            InvalidInput,
            "mixes weights",
        ),
    ],
)
def test_what_cannot_be_exported(tmp_path, backbone, settings, error, message):
    with pytest.raises(error, match=message):
        GloRoNet(backbone, Local(eps=0.1)).eval().export(tmp_path / "model.onnx", **settings)
    assert not list(tmp_path.iterdir())


def test_a_failing_export_leaves_what_was_there(tmp_path):
    path = net().export(tmp_path / "model.onnx")
    before = path.read_bytes()
    network = GloRoNet(nn.Sequential(nn.ReLU6(), linear(randn(1, 4, 4))), Local(eps=0.1))
    with pytest.raises(UnsupportedLayer):
        network.export(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


IMAGE = (2, 4, 4)
LAYERS = [
    nn.ReLU(),
    Abs(),
    MinMax(),
    GroupSort(2),
    nn.Dropout(0.5),
    Scale(0.1),
    Diagonal(randn(1, 4, 4).float()),
    InputNormalisation(randn(1, 2, 1, 1), randn(2, 2, 1, 1).abs() + 0.1),
    Permute(0, 2, 3, 1),
    Reshape(8, 2, 2),
    InvertibleDownsampling(),
    Part(1, 2, 1),
    nn.PixelUnshuffle(2),
    nn.ChannelShuffle(2),
    Rearrange(torch.tensor([[5, 1], [1, 31]]), 32),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers(tmp_path, layer):
    inputs = randn(3, 200, *IMAGE, dtype=torch.float32)
    count = layer.eval()(inputs[:1]).numel()
    backbone = nn.Sequential(
        layer, nn.Flatten(), linear(randn(1, 3, count) / 4, randn(2, 3), torch.float32)
    )
    network = GloRoNet(backbone, Local(eps=0.05)).eval()
    found, proved = Exported(network, input_shape=IMAGE)(inputs), network.certify(inputs)
    torch.testing.assert_close(found.logits[:, :3].double(), proved.logits, rtol=1e-4, atol=1e-5)
    assert proved.certified.any()
    assert not violations(found, proved).any()

    # The backbone alone, in operators that the import reads back (sorting has none).
    path = export_backbone(backbone, tmp_path / "backbone.onnx", input_shape=IMAGE)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    alone = session.run(None, {"x": inputs.numpy()})[0]
    np.testing.assert_allclose(alone, proved.logits.numpy(), rtol=1e-4, atol=1e-5)
    if not isinstance(layer, GroupSort):
        again = load_onnx(path)
        with torch.no_grad():
            torch.testing.assert_close(again(inputs), backbone(inputs), rtol=1e-5, atol=1e-5)


def test_linear_layers_on_the_last_dimension():
    backbone = nn.Sequential(
        linear(randn(1, 5, 4), randn(2, 5), torch.float32),
        nn.ReLU(),
        nn.Flatten(),
        linear(randn(1, 3, 15) / 4, dtype=torch.float32),
    )
    network = GloRoNet(backbone, Local(eps=0.05)).eval()
    inputs = randn(3, 200, 3, 4, dtype=torch.float32)
    found, proved = Exported(network, input_shape=(3, 4))(inputs), network.certify(inputs)
    assert found.certified.any()
    assert not violations(found, proved).any()


def test_a_backbone_alone_is_read_back_with_the_same_weights(tmp_path):
    backbone = random_backbone(1, hidden=(6, 8), normalise=True)
    for fixed in (False, True):
        path = export_backbone(backbone, tmp_path / "b.onnx", input_shape=(4,), fixed_batch=fixed)
        again = load_onnx(path)
        kinds = [type(layer) for layer in again]
        assert kinds == [InputNormalisation, nn.Linear, MinMax, nn.Linear, MinMax, nn.Linear]
        for one, other in zip(
            again.state_dict().values(), backbone.state_dict().values(), strict=True
        ):
            assert torch.equal(one.broadcast_to(other.shape), other)
        dim = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0]
        assert (dim.dim_value, dim.dim_param) == ((1, "") if fixed else (0, "batch"))
