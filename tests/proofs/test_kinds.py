"""Certificates of networks of every kind, from certify to an accepted file, and false ones."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from relaxcert import checker
from relaxcert.checker import network
from relaxcert.heads import GloRoNet
from relaxcert.nn.blocks import Concatenation, Residual
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.nn.shapes import GroupSort, InvertibleDownsampling
from relaxcert.spec import RelaxedTopK
from tests.networks import NORMS, randn
from tests.proofs.made import Artefacts, made, sealed, sealed_bytes
from tests.proofs.test_flips import flipped, outcome


def batch_norm(channels: int, kind: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    """With statistics as after training."""
    layer = kind(channels)
    with torch.no_grad():
        layer.running_mean.copy_(randn(70, channels) / 5)
        layer.running_var.copy_(randn(71, channels).square() + 0.2)
        layer.weight.copy_(randn(72, channels))
    return layer


def residual() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        batch_norm(4),
        Residual(nn.Conv2d(4, 4, 3, padding="same")),  # linear: I + W, after a linear layer
        nn.ReLU(),
        Residual(
            nn.Sequential(
                nn.Conv2d(4, 4, 3, padding=1, bias=False), batch_norm(4), nn.ReLU(),
                nn.Conv2d(4, 4, 1),
            )
        ),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )  # fmt: skip


def shared_part() -> nn.Sequential:
    """A linear value that a linear and another branch read."""
    branches = Concatenation(
        nn.Conv2d(3, 2, 1),
        nn.Sequential(nn.Tanh(), nn.Conv2d(3, 2, 3, padding=1)),
        nn.Identity(),
    )
    return nn.Sequential(
        nn.Conv2d(2, 3, 2), branches, nn.MaxPool2d(2, stride=1), nn.Flatten(), nn.Linear(63, 4)
    )


BACKBONES = {
    "convolutional": lambda: nn.Sequential(
        InputNormalisation(torch.full((2, 1, 1), 0.5), 0.25),
        nn.Conv2d(2, 6, 3, padding=1),
        MinMax(),
        nn.Conv2d(6, 4, 2, stride=2, groups=2, bias=False),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(16, 5),
    ),
    "batch norm and average pooling": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), batch_norm(4), GroupSort(4), nn.AvgPool2d(2, stride=1), nn.ReLU(),
        batch_norm(4), nn.Flatten(), nn.Linear(16, 5),
    ),
    "circular padding": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), nn.Sigmoid(),
        nn.MaxPool2d(3, stride=2, padding=1), nn.Flatten(), nn.Linear(36, 4),
    ),
    "residual": residual,
    "folded": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(50, 3), nn.Linear(3, 12), batch_norm(12, nn.BatchNorm1d), nn.ReLU(),
        nn.Linear(12, 6), nn.Dropout(), nn.Linear(6, 4, bias=False),
    ),
    "shared": shared_part,
    "concatenation": lambda: nn.Sequential(
        Concatenation(nn.Conv2d(2, 2, 1), nn.Sequential(nn.ReLU6(), nn.Conv2d(2, 2, 1))),
        nn.AvgPool2d(2, padding=(1, 1), stride=1), nn.ReLU(), InvertibleDownsampling(), MinMax(),
        nn.Flatten(), nn.Linear(144, 3),
    ),
    "ends with a sum": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(50, 4), Residual(nn.Sequential(nn.ReLU(), nn.Linear(4, 4))),
    ),
}  # fmt: skip


def artefacts_of(folder, name: str, norm: str) -> Artefacts:
    torch.manual_seed(0)
    backbone = BACKBONES[name]().eval()
    points = randn(1, 6, 2, 5, 5, dtype=torch.float32)
    with torch.no_grad():
        classes = backbone(points).shape[1]
    whole = GloRoNet(backbone, RelaxedTopK(2, eps=1, norm=norm), classes).certify(points)
    return made(
        folder,
        lambda eps: RelaxedTopK(2, eps=eps, norm=norm),
        backbone=backbone,
        inputs=points,
        eps=float(whole.radius.median()),
        num_classes=classes,
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", BACKBONES)
def test_networks_of_every_kind_are_accepted(name, norm, tmp_path):
    artefacts = artefacts_of(tmp_path, name, norm)
    accepted = artefacts.check()
    assert accepted.certified == int(artefacts.certificates.certified.sum()) > 0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", BACKBONES)
def test_every_bound_is_needed_and_not_much_too_large(name, norm, tmp_path):
    """Made 5 % smaller, each one is rejected at its own step; l2 ones with their witness."""
    artefacts = artefacts_of(tmp_path, name, norm)
    lines = artefacts.lines()
    for place, line in enumerate(lines):
        if line["kind"] == "bound":
            changed = [*lines]
            changed[place] = {**line, "bound": line["bound"] * 0.95}
            with pytest.raises(checker.Rejected) as caught:
                artefacts.check(certificate=sealed(changed, tmp_path / "changed"))
            assert caught.value.step == f"bound of layer {line['layer']} ({norm})"


@pytest.mark.parametrize("name", BACKBONES)
def test_random_bits_under_a_seal_that_fits(name, tmp_path):
    """Of certificate and model: accepted only what is weaker and true, or no number at all."""
    artefacts = artefacts_of(tmp_path, name, "l2")
    body = artefacts.certificate.read_bytes().rpartition(b'{"kind":"end"')[0]
    model, chosen, found = artefacts.model.read_bytes(), random.Random(0), Counter[str]()
    for number in range(100):
        if number % 4 == 0:
            bit = chosen.randrange(len(body) * 8)
            changed = sealed_bytes(flipped(body, bit), tmp_path / "changed")
            step = outcome(artefacts, certificate=changed)
            found[step] += 1
            assert step != "accepted" or weaker(artefacts, changed)
        (tmp_path / "m.safetensors").write_bytes(flipped(model, chosen.randrange(len(model) * 8)))
        found[outcome(artefacts, model=tmp_path / "m.safetensors")] += 1
    assert found["weights"] > 20
    assert found["unreadable"] > 5


def weaker(artefacts: Artefacts, changed) -> bool:
    """Line by line: witnesses and bounds aside, nothing but smaller margins and radii.

    Larger by 1 % at most: the checker folds more than the certifier does (average pooling).
    """
    lines = map(json.loads, changed.read_bytes().splitlines())
    for line, before in zip(lines, artefacts.lines(), strict=True):
        assert line.keys() == before.keys()
        for key in line.keys() - {"factor", "exponent", "bound", "sha256"}:
            smaller = key in ("margin", "radius") and line[key] <= before[key] * 1.01
            assert smaller or line[key] == before[key]
    return True


def test_the_speed_of_sums_enters_the_margins(tmp_path, monkeypatch):
    """The speed of a sum enters the margins: were it twice as large, they would not be proved."""
    artefacts = artefacts_of(tmp_path, "residual", "l2")
    true = network._speed_after

    def larger(step, operands, *rest):
        return true(step, operands, *rest) * (2 if step.action == "sum" else 1)

    monkeypatch.setattr(network, "_speed_after", larger)
    with pytest.raises(checker.Rejected, match="margin"):
        artefacts.check()


def test_points_of_another_shape_are_not_those(tmp_path):
    artefacts = artefacts_of(tmp_path, "convolutional", "l2")
    flat = artefacts.inputs.flatten(1).numpy()
    with pytest.raises(checker.Unreadable, match="does not fit"):
        artefacts.check(data=np.ascontiguousarray(flat))
