"""Certificates that were once accepted though what they claim is false."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from flint import arb, ctx
from safetensors.numpy import save_file
from torch import nn

from relaxcert import checker
from relaxcert.checker import bounds, verification
from relaxcert.checker.bounds import vector_norm
from relaxcert.checker.model import read_model
from relaxcert.heads import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.nn.elementwise import Abs
from relaxcert.proofs import write_proof
from relaxcert.spec import Local, TopK
from tests.networks import randn
from tests.proofs.made import sealed


def forged_tie(folder):
    """Two classes with the same logits everywhere, the boundary of F^2, as certified at radius > 0.

    Division by 9 has no exact ball, so the difference of their rows is a ball around 0.
    """
    linear = nn.Linear(4, 3)
    with torch.no_grad():
        linear.weight.copy_(randn(1, 3, 4))
        linear.weight[2], linear.bias[2] = linear.weight[1], linear.bias[1]
        linear.bias[0] = 50.0
    net = GloRoNet(nn.Sequential(nn.AvgPool2d(3), nn.Flatten(), linear), TopK(2, eps=0.01)).eval()
    points = randn(2, 1, 1, 6, 6)
    certificates = net.certify(points)
    assert not certificates.certified.any()
    np.savez(folder / "points.npz", x=points.numpy())
    save_model(net, folder / "model.safetensors")
    honest = write_proof(net, points, certificates, folder / "honest.cert")
    lines = [json.loads(line) for line in honest.read_text().splitlines()]
    lines[0]["certified"] = 1
    exact = points.numpy().astype("<f8")[0].tobytes()
    claim = {"index": 0, "input": hashlib.sha256(exact).hexdigest(), "kind": "point"}
    claim |= {"margin": 1e-9, "radius": 1e-9, "k": 2, "set": [0, 1]}
    lines.insert(-1, claim | {"strictest_k": 2, "strictest_set": [0, 1]})
    return {
        "certificate": sealed(lines, folder / "forged.cert"),
        "model": folder / "model.safetensors",
        "data": folder / "points.npz",
    }


def test_a_tie_of_equal_rows_that_no_ball_holds_exactly(tmp_path):
    with pytest.raises(checker.Rejected) as caught:
        checker.check(**forged_tie(tmp_path))
    assert (caught.value.step, caught.value.point) == ("margin", 0)


def test_with_roots_of_balls_around_0_and_without_the_guard_the_tie_passes(tmp_path, monkeypatch):
    def with_root_of_ball(parts, norm):
        assert norm == "l2"
        return sum((part * part for part in parts), arb(0)).sqrt()

    def unguarded(logits, reaches):
        def link(norm, radius, winner, loser):
            reach = reaches[norm]
            moved = arb(float(radius)) * reach.product * reach.distances[winner][loser]
            return ((logits[winner] - logits[loser]) - (moved if radius else 0)).lower()

        return link

    files = forged_tie(tmp_path)
    monkeypatch.setattr(bounds, "vector_norm", with_root_of_ball)
    with monkeypatch.context() as patch:
        patch.setattr(verification, "_links", unguarded)
        assert checker.check(**files).certified == 1
    with pytest.raises(checker.Rejected):
        checker.check(**files)  # the guard alone does, too


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_norms_of_balls_are_finite_and_no_less_than_those_of_what_they_hold(norm):
    with ctx.workprec(192):
        third = arb(1) / 3
        around_0 = third - third
        assert vector_norm([around_0, around_0], norm).is_finite()
        assert vector_norm([arb(0)], norm) == 0
        assert vector_norm([arb(3), arb(-4)], norm) >= {"l2": 5, "linf": 4, "l1": 7}[norm]
        assert vector_norm([arb(3, 1), arb(0)], norm) >= 4


def test_the_order_of_layers_is_part_of_the_hash_of_weights(tmp_path):
    """Abs before and after a ReLU are different networks with the same tensors."""
    torch.manual_seed(0)
    first, second = nn.Sequential(), nn.Sequential()
    linear, last = nn.Linear(4, 4).double(), nn.Linear(4, 3).double()
    shift = {"a": Abs(), "b": nn.LeakyReLU(0.5)}
    for network, names in ((first, "ab"), (second, "ba")):
        network.add_module("linear", linear)
        for name in names:
            network.add_module(name, shift[name])
        network.add_module("last", last)
    points = randn(3, 1, 4)
    many = randn(4, 100, 4)  # some of which make a number below 0
    assert not torch.equal(first(many), second(many))
    hashes = set[str]()
    for number, backbone in enumerate((first, second)):
        net = GloRoNet(backbone, Local(eps=0.01)).eval()
        model = save_model(net, tmp_path / f"{number}.safetensors")
        certificate = tmp_path / f"{number}.cert"
        write_proof(net, points, net.certify(points), certificate)
        header = json.loads(certificate.read_text().splitlines()[0])
        assert header["weights"] == read_model(model).weights
        hashes.add(header["weights"])
    assert len(hashes) == 2


@pytest.mark.parametrize("depth", [200, 600, 5000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"children":{"a":', "}}")])
def test_a_deeply_nested_architecture_is_unreadable(opening, closing, depth, tmp_path):
    text = opening * depth + "0" + closing * depth
    metadata = {"format": "relaxcert-model", "version": "1", "architecture": text}
    metadata |= {"property": "{}", "digest": hashlib.sha256(b"{}").hexdigest()}
    save_file({"weight": np.zeros((2, 2), np.float32)}, tmp_path / "deep", metadata)
    with pytest.raises(checker.Unreadable):
        read_model(tmp_path / "deep")
