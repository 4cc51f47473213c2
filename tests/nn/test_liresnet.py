"""LiResNet: blocks bounded as one map, trainable in every form, saved as data."""

from __future__ import annotations

import math

import pytest
import torch

from relaxcert.errors import InvalidInput
from relaxcert.heads import GloRoNet
from relaxcert.heads.model_file import load_model, save_model
from relaxcert.nn import Residual, liresnet
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK
from relaxcert.training import Optimisation, evaluate, fit
from relaxcert.training.forms import in_plain_form, in_training_form
from relaxcert.training.schedules import Constant
from tests.networks import randn
from tests.nn.operators import norm_of

SHAPE = (1, 8, 8)
FORMS = {
    "free": {},
    "almost orthogonal": {"convolutions": "almost-orthogonal"},
    "all": {"convolutions": "almost-orthogonal", "last_layer": "normalised", "orthogonal": True},
}


def small(seed: int = 0, classes: int = 4):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return liresnet(SHAPE, classes, width=4, depth=2, features=8)


def test_its_layers_are_stem_blocks_neck_and_head():
    kinds = [type(layer).__name__ for layer in small()]
    block = ["Residual", "MinMax"]
    neck = ["Conv2d", "MinMax", "Flatten", "Linear", "MinMax", "Linear"]
    assert kinds == ["Conv2d", "MinMax", *block, *block, *neck]
    for stride in (1, 2, 4):
        sized = liresnet((3, 16, 8), 9, width=2, depth=1, features=4, stride=stride)
        assert sized(torch.rand(2, 3, 16, 8)).shape == (2, 9)


def test_a_block_is_bounded_as_one_map_which_is_less_than_the_sum():
    backbone = small()
    with torch.no_grad():
        for layer in backbone:
            if isinstance(layer, Residual):
                layer.block[0].weight.mul_(5.0).neg_()
    net = GloRoNet(backbone, Local(eps=0.1), input_shape=SHAPE)
    product = net.verify(tight=True).norms["l2"].product
    truth, sums = 1.0, 1.0
    shapes = iter([SHAPE, (4, 4, 4), (4, 4, 4), (4, 4, 4), (32,)])
    for layer in list(backbone)[:-1]:
        if isinstance(layer, Residual):
            shape = next(shapes)
            truth *= norm_of(layer, shape)
            sums *= 1.0 + norm_of(layer.block, shape)
        elif hasattr(layer, "weight"):
            shape = next(shapes)
            truth *= norm_of(layer, shape)
            sums *= norm_of(layer, shape)
    assert truth * (1.0 - 1e-12) <= product <= truth * 1.001
    assert product < 0.9 * sums


def test_convolutions_begin_with_norms_of_at_most_1():
    backbone = small()
    assert norm_of(backbone[0], SHAPE) <= 1.0 + 1e-6
    assert norm_of(backbone[2].block[0], (4, 4, 4)) <= 1.0 + 1e-6
    assert norm_of(backbone[2], (4, 4, 4)) <= 1.0 + 1.0 / math.sqrt(2.0) + 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_it_trains_in_every_form_and_certifies_and_is_saved_as_plain_layers(form, tmp_path):
    prop = RelaxedTopK(2, eps=0.05)
    net = GloRoNet(small(), prop, input_shape=SHAPE)
    labels = torch.arange(48) % 4
    inputs = 0.1 * randn(1, 48, *SHAPE, dtype=torch.float32)
    for row, label in enumerate(labels.tolist()):  # the label is where it is bright
        inputs[row, 0, 4 * (label // 2) : 4 * (label // 2) + 4, 4 * (label % 2) :][:, :4] += 1.0
    settings = Optimisation(
        epochs=12,
        batch_size=16,
        learning_rate=Constant(value=1e-2),
        loss="certified-set",
        temperature=0.1,
        ranking_weight=0.1,
        **FORMS[form],
    )
    history = fit(net, (inputs, labels), settings, folder=tmp_path, progress=False)
    assert history.epochs[-1].loss < 0.5 * history.epochs[0].loss
    figures, before = evaluate(net, inputs, labels)
    assert figures.vra > 0.9
    model = save_model(net, tmp_path / "model.safetensors")
    after = load_model(model).net.certify(inputs)
    assert torch.equal(after.margin, before.margin)
    names = {name for name, _ in load_model(model).net.backbone.named_parameters()}
    assert not any("parametrizations" in name or "free" in name for name in names)


@pytest.mark.parametrize("form", FORMS)
def test_the_estimate_of_training_is_differentiable_and_meets_the_proof(form):
    settings = Optimisation(**FORMS[form])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        twin = in_training_form(small(), settings)
    trained = GloRoNet(twin, Local(eps=0.1), input_shape=SHAPE).train()
    points = randn(2, 3, *SHAPE, dtype=torch.float32)
    for _ in range(80):
        trained(points)
    product = trained.lipschitz.estimated(SHAPE)["l2"][0]
    plain = GloRoNet(in_plain_form(twin), Local(eps=0.1), input_shape=SHAPE)
    proved = plain.verify(tight=True).norms["l2"].product
    assert product.item() == pytest.approx(proved, rel=0.01)
    product.backward()
    block = twin[2].block[0].weight
    assert block.grad is not None
    assert block.grad.any()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_affinity_trains_too_in_any_precision(precision):
    sets = AffinitySets([[0, 1], [2, 3]], num_classes=4)
    net = GloRoNet(small(), Affinity(sets, eps=0.05), input_shape=SHAPE)
    form = {**FORMS["all"], "precision": precision, "loss": "certified-set"}
    settings = Optimisation(epochs=1, batch_size=4, **form)
    fit(net, (torch.rand(8, *SHAPE), torch.arange(8) % 4), settings, progress=False)
    assert net.verify().norms["l2"].product > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": (1, 6, 8)}, "multiples of 4"),
        ({"shape": (8, 8)}, "multiples of 4"),
        ({"width": 3}, "width=3 must be even"),
        ({"features": 0}, "features=0 must be even"),
        ({"depth": 0}, "depth=0"),
        ({"stride": 0}, "stride=0"),
        ({"stride": 3}, "multiples of 6"),
        ({"num_classes": 1}, "num_classes=1"),
    ],
)
def test_sizes_that_do_not_fit_are_named(change, said):
    with pytest.raises(InvalidInput, match=said):
        liresnet(**{"shape": SHAPE, "num_classes": 4, **change})
