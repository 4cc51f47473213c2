"""``train --dry-run``: every recipe of Table 3 passes it on data in the data set's own format."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from relaxcert.cli import main
from relaxcert.data.landsat import landsat
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.nn.convolutional import conv_net
from relaxcert.nn.networks import dense
from relaxcert.spec import Local
from relaxcert.spec.catalogue import load_document
from relaxcert.training import Optimisation, fit, load_recipe
from relaxcert.training.loop import Run
from relaxcert.training.plan import memory_of, schedules
from tests.data.images import written


def small_net() -> GloRoNet:
    """The same weights at every call."""
    torch.manual_seed(1)
    return GloRoNet(dense(36, [16], 6), Local(eps=0.03))


TABLE_3 = {
    "cifar100-local": "cifar100",
    "cifar100-rt5": "cifar100",
    "cifar100-superclass-affinity": "cifar100",
    "eurosat-local": "eurosat",
    "eurosat-rt3": "eurosat",
    "eurosat-highway-river": "eurosat",
    "eurosat-highway-river-agriculture": "eurosat",
    "tiny-imagenet-rt5": "tiny-imagenet",
    "acasxu-paper": "acasxu",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A few points each, in the format in which the set is published (ACAS Xu: as we write it)."""
    root = tmp_path_factory.mktemp("sets")
    written.cifar_binary(root / "cifar100", [0, 99, 7, 7])
    names = load_document("eurosat/local").class_names
    written.eurosat(root / "eurosat" / "EuroSAT_RGB", names, images=2)
    written.tiny_imagenet(root / "tiny-imagenet", [f"n{n:08}" for n in range(3)], images=1)
    (root / "acasxu").mkdir()
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 5))
    np.savez(root / "acasxu" / "train.npz", x=points, y=np.arange(8) % 5)
    return {name: root / name for name in set(TABLE_3.values())}


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["relaxcert", "train", *map(str, arguments)])
        monkeypatch.setattr("warnings.showwarning", None)
        status = 0
        try:
            main()
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.mark.parametrize(("name", "data"), TABLE_3.items())
def test_every_recipe_of_table_3_makes_three_steps_on_its_own_format(
    run, folders, tmp_path, name, data
):
    out, plot = tmp_path / "runs", tmp_path / "plan.png"
    options = ("--data", folders[data], "--out", out, "--dry-run", "--plot", plot, "--json")
    status, printed, err = run("--recipe", name, *options)
    assert status == 0, err
    plan, recipe = json.loads(printed), load_recipe(name)
    assert len(plan["first_steps"]) == 3
    assert all(np.isfinite(step["loss"]) for step in plan["first_steps"])
    assert plan["steps"] == plan["steps_an_epoch"] * recipe.optimisation.epochs
    assert plan["schedules"].keys() == schedules(recipe.optimisation).keys()
    assert sum(layer["parameters"] for layer in plan["layers"]) == plan["parameters"]
    with Image.open(plot) as image:
        image.verify()
    assert not out.exists()  # nothing is kept


def test_the_plan_is_printed_for_people_and_drawn_beside_the_folder(run, folders, tmp_path):
    out = tmp_path / "mine"
    options = ("--data", folders["cifar100"], "--out", out, "--dry-run")
    status, printed, err = run("--recipe", "cifar100-rt5", *options)
    assert status == 0, err
    for said in (
        "cifar100:train: 4 points of 3 x 32 x 32",
        "200 epochs, 200 steps",
        "TRADES weight",
        "InvertibleDownsampling",
        "97 of 100 classes have no point to train on",
        "step 2: loss",
    ):
        assert said in printed
    assert (tmp_path / "mine-schedules.png").read_bytes().startswith(b"\x89PNG")


def test_the_first_steps_are_those_of_the_run():
    """Two epochs of two batches: the loss of the first epoch is the mean of the first two steps."""
    split = landsat("train")
    data = split.inputs[:100], split.labels[:100]
    settings = Optimisation(epochs=2, batch_size=64, augmentation="patch-symmetries")
    with torch.random.fork_rng():
        made = Run(small_net(), data, settings, seed=3).first_steps(3)
    history = fit(small_net(), data, settings, seed=3, progress=False)
    assert len(made) == 3
    assert history.epochs[0].loss == pytest.approx((made[0][0] + made[1][0]) / 2, rel=1e-6)


def test_the_memory_estimate_is_what_autograd_keeps_at_the_real_batch_size():
    torch.manual_seed(1)
    net = GloRoNet(conv_net((1, 8, 8), 10), Local(eps=0.03), input_shape=(1, 8, 8)).train()
    points = torch.rand(100, 1, 8, 8)
    estimate = memory_of(net, points[:3], 100, 0)
    sizes: dict[int, int] = {}
    kept: list[torch.Tensor] = []
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def pack(tensor):
        kept.append(tensor)
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(points)
    measured = sum(size for place, size in sizes.items() if place not in weights)
    assert measured <= estimate.saved <= 1.05 * measured
    assert estimate.state >= 4 * 4 * sum(p.numel() for p in net.parameters())
    in_half = memory_of(net, points[:3], 100, 0, bf16=True)
    assert 0.4 * estimate.saved < in_half.saved < 0.8 * estimate.saved
