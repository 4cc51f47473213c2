"""``relaxcert attack``: what is broken, what is certified, and what lies between."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from relaxcert.attacks import attack
from relaxcert.cli import attack as command
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import load_model, save_model
from relaxcert.spec import RelaxedTopK, digest, load_property
from relaxcert.training.evaluation import evaluate
from tests.attacks.test_margin_pgd import check_exactly
from tests.networks import randn, random_backbone

MODEL = ["attack", "model.safetensors", "--data", "points.npz"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder with a model of 36 features and 6 classes, and labelled points."""
    monkeypatch.chdir(tmp_path)
    net = GloRoNet(random_backbone(1, 36, (8,), 6), RelaxedTopK(2, eps="0.2"))
    save_model(net, "model.safetensors")
    inputs = randn(3, 30, 36)
    np.savez("points.npz", x=inputs.numpy(), y=net.certify(inputs).prediction.numpy())
    return tmp_path


def test_attack_counts_and_saves_witnesses(run, folder):
    status, out, err = run(*MODEL, "--json", "--out", "found.npz", "--steps", 20)
    assert (status, err) == (0, "")
    summary = json.loads(out)
    assert summary["points"] == 30
    assert summary["certified"] + summary["broken"] + summary["open"] == 30
    assert summary["certified_and_broken"] == 0
    assert summary["certified"] > 0
    assert summary["broken"] > 0
    assert 0 < summary["vra"] <= summary["vra_upper_bound"] < 1
    saved = np.load("found.npz")
    assert len(saved["index"]) == summary["broken"]
    assert saved["witnesses"].shape == (summary["broken"], 2, 36)
    assert saved["broken"].all()


def test_the_saved_witnesses_break_the_property_exactly(run, folder):
    run(*MODEL, "--out", "found.npz")
    saved, net = np.load("found.npz"), load_model("model.safetensors").net
    points = torch.from_numpy(np.load("points.npz")["x"][saved["index"]])
    shown = command.AttackResult(
        falsified=torch.ones(len(points), dtype=torch.bool),
        witnesses=torch.from_numpy(saved["witnesses"]),
        broken=torch.from_numpy(saved["broken"]),
        lowest=torch.zeros(saved["broken"].shape),
        goal=None,
    )
    assert check_exactly(net, points, shown) == len(points) > 0


def test_attack_in_words_and_on_another_property(run, folder):
    status, out, _ = run(*MODEL, "--property", "landsat/local", "--points", 4, "--restarts", 1)
    assert status == 0
    assert digest(load_property("landsat/local")) in out.replace("\n", "")
    assert "<= true robust accuracy <=" in out


def test_a_broken_certificate_is_status_3(run, folder, monkeypatch):
    """The bounds are made to lie: everything is certified."""
    exact = GloRoNet.certify

    def lying(self, inputs, **more):
        found = exact(self, inputs, **more)
        found.certified.fill_(True)
        return found

    monkeypatch.setattr(GloRoNet, "certify", lying)
    status, out, _ = run(*MODEL)
    assert status == 3
    assert "SOUNDNESS VIOLATION" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--scale", "inf"], "must be finite"),
        (["--out", "found.npy"], "must end in .npz"),
        (["--property", "cifar100/superclasses"], "100 classes"),
        (["--steps", "0"], "--steps"),
    ],
)
def test_mistakes_are_refused(run, folder, more, message):
    status, _, err = run(*MODEL, *more)
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_certify_brackets_the_vra_where_an_attack_is_asked_for(run, folder):
    arguments = ["certify", "model.safetensors", "--data", "points.npz", "--attack"]
    status, out, err = run(*arguments, "--json", "--out", "verdicts")
    assert (status, err) == (0, "")
    summary = json.loads(out)
    figures, counts = summary["figures"], summary["attack"]
    assert 0 < figures["vra"] <= figures["vra_upper_bound"] < 1
    assert counts["certified_and_broken"] == 0
    assert summary["certified"] + counts["broken"] + counts["open"] == 30
    assert json.loads((folder / "verdicts" / "summary.json").read_text()) == summary
    status, out, _ = run(*arguments)
    assert status == 0
    assert f"<= true robust accuracy <= {figures['vra_upper_bound']:.4f}" in out
    without = json.loads(run(*arguments[:-1], "--json")[1])
    assert "attack" not in without
    assert "vra_upper_bound" not in without["figures"]


def test_certify_with_an_attack_that_breaks_a_certificate_is_status_3(run, folder, monkeypatch):
    true_certify = GloRoNet.certify

    def certify(self, inputs, **rest):
        scaled = self.prop.with_eps(self.prop.balls[0].eps / 1000)
        return true_certify(GloRoNet(self.backbone, scaled), inputs, **rest)

    monkeypatch.setattr(GloRoNet, "certify", certify)
    status, out, _ = run("certify", "model.safetensors", "--data", "points.npz", "--attack")
    assert status == 3
    assert "SOUNDNESS VIOLATION" in out


def test_an_attack_and_a_deployed_format_are_told_apart(run, folder):
    arguments = ["certify", "model.safetensors", "--data", "points.npz", "--attack"]
    status, _, err = run(*arguments, "--deployed", "float32")
    assert status == 2
    assert "leave one out" in err


def test_evaluate_takes_an_attack(folder):
    net = load_model("model.safetensors").net
    inputs = randn(3, 30, 36)
    labels = net.certify(inputs).prediction
    figures, _ = evaluate(net, inputs, labels, attack=partial(attack, steps=20))
    assert figures.vra_upper_bound is not None
    assert figures.vra <= figures.vra_upper_bound < 1
    left = attack(net, inputs, steps=20).may_count(labels)
    assert figures.vra_upper_bound == pytest.approx(float(left.double().mean()))
    assert evaluate(net, inputs, labels)[0].vra_upper_bound is None
