"""Layers that move numbers, in model files: networks read from ONNX files are full of them."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from relaxcert.errors import ModelFileError
from relaxcert.heads import GloRoNet
from relaxcert.heads.model_file import load_model, save_model
from relaxcert.nn.elementwise import Diagonal
from relaxcert.nn.rearrange import Rearrange
from relaxcert.nn.shapes import Part
from relaxcert.spec import Local
from tests.networks import randn

PLACES = torch.tensor([[3, 0, 3], [7, 1, 2]])
MOVEMENTS = {
    "rearrange": (lambda: Rearrange(PLACES, 8), (8,), 6),
    "part": (lambda: Part(1, 2, 1), (8,), 4),
    "diagonal": (lambda: Diagonal(randn(5, 8).float()), (8,), 8),
    "shuffle": (lambda: nn.ChannelShuffle(2), (4, 2, 1), 8),
}


def network(name: str) -> GloRoNet:
    make, shape, count = MOVEMENTS[name]
    torch.manual_seed(0)
    backbone = nn.Sequential(make(), nn.Flatten(), nn.Linear(count, 3))
    return GloRoNet(backbone, Local(eps="0.05"), input_shape=shape).eval()


@pytest.mark.parametrize("name", MOVEMENTS)
def test_movements_are_read_back(name, tmp_path):
    net = network(name)
    loaded = load_model(save_model(net, tmp_path / "net.safetensors")).net
    assert type(loaded.backbone[0]) is type(net.backbone[0])
    inputs = randn(1, 30, *MOVEMENTS[name][1], dtype=torch.float32)
    one, other = net.certify(inputs), loaded.certify(inputs)
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.margin, other.margin)
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (PLACES + 1, r"places lie in 1\.\.8"),
        (PLACES - 1, r"places lie in -1\.\.6"),
        (PLACES.float(), "float32"),
    ],
    ids=["beyond", "before", "no integers"],
)
def test_places_from_a_file_are_checked(places, message, tmp_path):
    path = save_model(network("rearrange"), tmp_path / "net.safetensors")
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    save_file({**tensors, "0.places": places}, path, metadata)
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


@pytest.mark.parametrize("count", [True, -1, 2**40, "8", 3])
def test_a_count_that_cannot_be_is_refused(count, tmp_path):
    path = save_model(network("rearrange"), tmp_path / "net.safetensors")
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    architecture = json.loads(metadata["architecture"])
    architecture["children"]["0"]["count"] = count
    save_file(tensors, path, {**metadata, "architecture": json.dumps(architecture)})
    with pytest.raises(ModelFileError):
        load_model(path)
