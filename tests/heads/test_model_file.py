"""Model files: what is read back certifies alike, and nothing else is ever read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from relaxcert.errors import InvalidWeights, ModelFileError, UnsupportedLayer
from relaxcert.heads import GloRoNet
from relaxcert.heads.model_file import load_model, save_model
from relaxcert.lipschitz import registry
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.spec import Local, RelaxedTopK
from tests.networks import every_kind, linear, randn, random_backbone


def backbone() -> nn.Sequential:
    body = random_backbone(1, normalise=True)
    return nn.Sequential(
        body[0], nn.Flatten(), nn.Sequential(*body[2:4]), nn.Dropout(0.25), nn.Identity(), *body[4:]
    )


@pytest.fixture
def saved(tmp_path) -> Path:
    return save_model(
        GloRoNet(backbone(), RelaxedTopK(2, eps="0.05")), tmp_path / "net.safetensors"
    )


def parts(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def rewritten(path: Path, *, tensors=None, **metadata: str | None) -> Path:
    old_tensors, old = parts(path)
    merged = {k: v for k, v in {**old, **metadata}.items() if v is not None}
    save_file(old_tensors if tensors is None else tensors, path, merged)
    return path


@pytest.mark.parametrize("kind", range(len(every_kind(4))))
def test_a_network_read_back_gives_identical_certificates(kind, tmp_path):
    net = GloRoNet(backbone(), every_kind(4, "0.05")[kind])
    path = save_model(net, tmp_path / "net.safetensors")
    loaded = load_model(path).net
    inputs = randn(1, 30, 4, dtype=torch.float32)
    one, other = net.certify(inputs), loaded.certify(inputs)
    for name in ("certified", "k", "sets", "margin", "radius", "logits"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert one.digest == other.digest
    assert one.fingerprint == other.fingerprint
    assert torch.equal(net.eval()(inputs), loaded(inputs))
    assert not loaded.training


def test_names_and_notes_are_read_back_and_no_bound_is_in_the_file(tmp_path):
    net = GloRoNet(backbone(), Local(eps="0.05"))
    names = ["a", 'quote"', "grün", "d"]
    path = save_model(net, tmp_path / "n.safetensors", class_names=names, notes={"seed": "3"})
    model = load_model(path)
    assert model.class_names == tuple(names)
    assert model.notes == {"seed": "3"}
    assert model.net.lipschitz.present is None
    tensors, metadata = parts(path)
    assert set(tensors) == set(net.backbone.state_dict())
    assert set(metadata) == {
        "format", "version", "architecture", "property", "digest", "class_names", "note.seed",
            "input_shape", "num_classes",
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_weights_keep_their_type(dtype, tmp_path):
    net = GloRoNet(random_backbone(2, dtype=dtype), Local(eps="0.05"))
    loaded = load_model(save_model(net, tmp_path / "n.safetensors")).net
    assert {p.dtype for p in loaded.backbone.parameters()} == {dtype}
    assert all(p.requires_grad for p in loaded.backbone.parameters())


def test_a_shared_layer_is_saved_and_certifies_alike(tmp_path):
    shared = nn.Linear(4, 4)
    net = GloRoNet(
        nn.Sequential(shared, nn.ReLU(), shared, MinMax(), nn.Linear(4, 3)), Local(eps=0.1)
    )
    loaded = load_model(save_model(net, tmp_path / "n.safetensors")).net
    inputs = randn(2, 20, 4, dtype=torch.float32)
    assert torch.equal(net.certify(inputs).margin, loaded.certify(inputs).margin)


def test_a_single_layer_is_a_backbone_too(tmp_path):
    net = GloRoNet(linear(torch.eye(3)), Local(eps=0.1))
    loaded = load_model(save_model(net, tmp_path / "n.safetensors")).net
    assert torch.equal(net.certify(torch.eye(3)).margin, loaded.certify(torch.eye(3)).margin)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_failing_to_save_leaves_the_former_file_untouched_and_no_other(bad, saved):
    before = saved.read_bytes()
    net = GloRoNet(backbone(), Local(eps=0.1))
    net.backbone[-1].weight.data[0, 0] = bad
    with pytest.raises(InvalidWeights, match="NaN or infinite"):
        save_model(net, saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_disk_that_fills_up_leaves_the_former_file_untouched(saved, monkeypatch):
    before = saved.read_bytes()

    def full(tensors, name, metadata):
        Path(name).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("relaxcert.heads.model_file.save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_model(GloRoNet(backbone(), Local(eps=0.1)), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_layers_that_cannot_be_written_as_data_are_refused(tmp_path, monkeypatch):
    class Own(nn.ReLU):
        pass

    rules = {**registry._RULES, Own: registry._RULES[nn.ReLU]}
    monkeypatch.setattr(registry, "_RULES", rules)
    net = GloRoNet(nn.Sequential(Own(), nn.Linear(4, 3)), Local(eps=0.1))
    with pytest.raises(UnsupportedLayer, match="Own cannot be written"):
        save_model(net, tmp_path / "n.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_off_anywhere_is_a_model_file_error(saved):
    whole = saved.read_bytes()
    step = max(1, len(whole) // 60)
    for length in [0, 1, 7, 8, 9, *range(10, len(whole), step), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            load_model(saved)


def test_a_byte_changed_anywhere_in_the_header_gives_a_model_or_a_model_file_error(saved):
    whole = bytearray(saved.read_bytes())
    header = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for place in range(0, header, 7):
        for flip in (0x01, 0x80):
            changed = bytearray(whole)
            changed[place] ^= flip
            saved.write_bytes(changed)
            try:
                load_model(saved)
            except ModelFileError:
                refused += 1
    assert refused > header // 14


def test_files_that_are_not_model_files_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    for content in (b"", b"hello", b"\x80\x04\x95pickle", b"\xff" * 200, b"{}" * 50):
        path.write_bytes(content)
        with pytest.raises(ModelFileError):
            load_model(path)
    with pytest.raises(ModelFileError, match="no such file"):
        load_model(tmp_path / "missing.safetensors")
    with pytest.raises(ModelFileError):
        load_model(tmp_path)
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(ModelFileError, match="not one that relaxcert wrote"):
        load_model(path)


BAD_METADATA = {
    "format": "other",
    "version": "2",
    "digest": "0" * 64,
    "property": "{}",
    "architecture": "{",
    "class_names": "[1, 2]",
}


@pytest.mark.parametrize("field", list(BAD_METADATA))
@pytest.mark.parametrize("value", ["changed", "missing", "empty"])
def test_wrong_or_missing_metadata_is_a_model_file_error(field, value, saved):
    if field == "class_names" and value == "missing":
        return  # they are optional
    new = {"changed": BAD_METADATA[field], "missing": None, "empty": ""}[value]
    with pytest.raises(ModelFileError):
        load_model(rewritten(saved, **{field: new}))


def test_a_property_with_a_larger_eps_does_not_pass_under_the_old_digest(saved):
    _, metadata = parts(saved)
    changed = metadata["property"].replace("1/20", "1/2")
    assert changed != metadata["property"]
    with pytest.raises(ModelFileError, match="digest"):
        load_model(rewritten(saved, property=changed))


LINEAR = {"kind": "Linear", "bias": True}
BAD_ARCHITECTURES = {
    "unknown layer": {"kind": "Tanh"},
    "code": {"kind": "__import__('os').system('true')"},
    "kind is a list": {"kind": ["Linear"]},
    "kind missing": {"bias": True},
    "a list": [LINEAR],
    "null": None,
    "a number": 3,
    "no children": {"kind": "Sequential"},
    "children is a list": {"kind": "Sequential", "children": [LINEAR]},
    "empty": {"kind": "Sequential", "children": {}},
    "name with a dot": {"kind": "Sequential", "children": {"0.weight": LINEAR}},
    "empty name": {"kind": "Sequential", "children": {"": LINEAR}},
    "name of a method": {"kind": "Sequential", "children": {"forward": LINEAR}},
    "name of an attribute": {"kind": "Sequential", "children": {"training": LINEAR}},
    "missing tensor": {"kind": "Sequential", "children": {"99": LINEAR}},
    "bias missing": {"kind": "Sequential", "children": {"0": {"kind": "Linear"}}},
    "flatten without sizes": {"kind": "Flatten"},
    "flatten with text": {"kind": "Flatten", "start": "x", "end": -1},
    "flatten at infinity": {"kind": "Flatten", "start": math.inf, "end": -1},
    "flatten at nan": {"kind": "Flatten", "start": math.nan, "end": -1},
    "dropout above 1": {"kind": "Dropout", "p": 2},
    "dropout null": {"kind": "Dropout", "p": None},
    "normalisation without tensors": {"kind": "InputNormalisation"},
}


@pytest.mark.parametrize("name", list(BAD_ARCHITECTURES))
def test_a_malformed_architecture_is_a_model_file_error(name, saved):
    text = json.dumps(BAD_ARCHITECTURES[name])
    with pytest.raises(ModelFileError):
        load_model(rewritten(saved, architecture=text))


@pytest.mark.parametrize("depth", [40, 2000, 200_000])
def test_deep_nesting_is_a_model_file_error(depth, saved):
    opening, closing = '{"kind": "Sequential", "children": {"0": ', "}}"
    text = opening * depth + json.dumps(LINEAR) + closing * depth
    with pytest.raises(ModelFileError):
        load_model(rewritten(saved, architecture=text))


def test_numbers_of_absurd_length_are_a_model_file_error(saved):
    text = '{"kind": "Flatten", "end": -1, "start": ' + "9" * 10_000 + "}"
    with pytest.raises(ModelFileError):
        load_model(rewritten(saved, architecture=text))


def test_tensors_that_are_missing_left_over_or_misshapen_are_a_model_file_error(saved):
    tensors, _ = parts(saved)
    first = next(name for name in tensors if name.endswith("weight"))
    bias = next(name for name in tensors if name.endswith("bias"))
    changes = [
        {k: v for k, v in tensors.items() if k != first},
        {k: v for k, v in tensors.items() if k != bias},
        {**tensors, "left.over": torch.ones(1)},
        {**tensors, first: torch.ones(3)},
        {**tensors, first: torch.ones(2, 2, 2)},
        {**tensors, bias: torch.ones(99)},
        {**tensors, first: torch.ones(4, 4, dtype=torch.int64)},
        {k: v for k, v in tensors.items() if not k.endswith("std")},
    ]
    original = saved.read_bytes()
    for changed in changes:
        saved.write_bytes(original)
        with pytest.raises(ModelFileError):
            load_model(rewritten(saved, tensors=changed))


@pytest.mark.parametrize("bad", [math.nan, -1.0, 0.0])
def test_bad_numbers_in_a_file_are_refused_before_anything_is_certified(bad, saved):
    tensors, _ = parts(saved)
    tensors["0.std"].fill_(bad)
    path = rewritten(saved, tensors=tensors)
    try:
        net = load_model(path).net
    except ModelFileError:
        return
    with pytest.raises(InvalidWeights):
        net.certify(torch.zeros(1, 4))


def test_normalisation_constants_of_any_shape_are_read_back(tmp_path):
    mean, std = torch.rand(3, 1, 1), torch.rand(3, 1, 1) + 0.5
    net = GloRoNet(
        nn.Sequential(InputNormalisation(mean, std), nn.Flatten(), nn.Linear(12, 3)),
        Local(eps=0.01),
    )
    loaded = load_model(save_model(net, tmp_path / "n.safetensors")).net
    inputs = torch.rand(5, 3, 2, 2)
    assert torch.equal(net.certify(inputs).margin, loaded.certify(inputs).margin)
