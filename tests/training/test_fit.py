"""``fit``: it learns, it repeats itself bit for bit, it resumes, and it fails clearly."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from relaxcert.errors import (
    InvalidInput,
    ModelFileError,
    TrainingError,
    UncoveredClassWarning,
)
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import load_model
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK
from relaxcert.training import evaluate, fit
from relaxcert.training.loop import BEST, CHECKPOINT, LAST
from relaxcert.training.progress import EpochBar
from tests.networks import every_kind
from tests.training.toy import (
    CLASSES,
    Plain,
    blobs,
    network,
    same_weights,
    settings,
    without_time,
)

BOTH = pytest.mark.parametrize("orthogonal", [False, True])


class Interrupted(Exception):
    pass


def interrupt_after(monkeypatch, epochs: int) -> None:
    """Let the power fail once so many epochs are done and saved."""
    done = []

    def advance(self, loss, vra):
        done.append(loss)
        if len(done) == epochs:
            raise Interrupted

    monkeypatch.setattr(EpochBar, "advance", advance)


@BOTH
def test_training_raises_the_vra_and_leaves_eval_mode(orthogonal):
    net, test = network(), blobs(seed=1)
    before, _ = evaluate(net, *test)
    history = fit(net, blobs(), settings(8, orthogonal=orthogonal), progress=False)
    after, _ = evaluate(net, *test)
    assert not net.training
    assert not any(module.training for module in net.modules())
    assert before.vra < 0.6 < 0.9 < after.vra
    assert [epoch.epoch for epoch in history.epochs] == list(range(8))
    assert history.epochs[-1].loss < history.epochs[0].loss / 2


@BOTH
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(orthogonal):
    nets = [network() for _ in range(3)]
    chosen = settings(2, orthogonal=orthogonal)
    histories = [
        fit(net, blobs(), chosen, seed=seed, validation=blobs(seed=2), progress=False)
        for net, seed in zip(nets, (5, 5, 6), strict=True)
    ]
    assert same_weights(nets[0], nets[1])
    assert without_time(histories[0]) == without_time(histories[1])
    assert not torch.equal(nets[0].backbone[1].weight, nets[2].backbone[1].weight)


@BOTH
def test_the_state_of_the_global_generator_neither_matters_nor_changes(orthogonal):
    left, right = network(), network()
    chosen = settings(2, orthogonal=orthogonal)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    fit(left, blobs(), chosen, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    fit(right, Plain(*blobs()), chosen, progress=False)
    assert same_weights(left, right)


def test_dropout_follows_the_seed_and_nothing_else():
    def trained(seed: int, elsewhere: int) -> GloRoNet:
        torch.manual_seed(0)
        layers = (nn.Linear(CLASSES, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, CLASSES))
        net = GloRoNet(nn.Sequential(*layers), Local(eps=0.1))
        torch.manual_seed(elsewhere)
        fit(net, blobs(), settings(2), seed=seed, progress=False)
        return net

    assert same_weights(trained(3, elsewhere=1), trained(3, elsewhere=2))
    assert not same_weights(trained(3, elsewhere=1), trained(4, elsewhere=1))


@BOTH
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(tmp_path, monkeypatch, orthogonal, stop):
    chosen = settings(5, orthogonal=orthogonal)
    more = {"validation": blobs(seed=2), "evaluate_every": 1, "seed": 3, "progress": False}
    whole, broken, resumed = network(), network(), network(seed=9)
    expected = fit(whole, blobs(), chosen, **more, folder=tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch, stop)
        with pytest.raises(Interrupted):
            fit(broken, blobs(), chosen, **more, folder=tmp_path / "broken")
    found = fit(resumed, blobs(), chosen, **more, folder=tmp_path / "broken", resume=True)
    assert without_time(found) == without_time(expected)
    if orthogonal:  # the iterates of the network itself play no part then
        assert all(
            map(torch.equal, resumed.backbone.state_dict().values(), whole.backbone.parameters())
        )
    else:
        assert same_weights(resumed, whole)
    for name in (BEST, LAST):
        left = load_model(tmp_path / "whole" / name).net
        right = load_model(tmp_path / "broken" / name).net
        assert same_weights(left, right)


def test_a_run_that_is_cut_short_between_saves_continues_from_the_last_save(tmp_path, monkeypatch):
    chosen = settings(5)
    more = {"evaluate_every": 2, "folder": tmp_path, "progress": False}
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(Interrupted):
            fit(network(), blobs(), chosen, **more)
    resumed, whole = network(), network()
    fit(resumed, blobs(), chosen, **more, resume=True)
    fit(whole, blobs(), chosen, evaluate_every=2, progress=False)
    assert same_weights(resumed, whole)


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    net, again = network(), network(seed=4)
    done = fit(net, blobs(), settings(2), folder=tmp_path, progress=False)
    assert fit(again, blobs(), settings(2), folder=tmp_path, resume=True, progress=False) == done
    assert same_weights(net, again)


def test_resume_without_a_checkpoint_starts_from_the_beginning(tmp_path):
    net, fresh = network(), network()
    fit(net, blobs(), settings(1), folder=tmp_path, resume=True, progress=False)
    fit(fresh, blobs(), settings(1), progress=False)
    assert same_weights(net, fresh)


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimisation": settings(4)}, "epochs=3, but this run has 4"),
        ({"optimisation": settings(3, temperature=0.5)}, "temperature=1.0, .* 0.5"),
        ({"seed": 1}, "seed=0, but this run has 1"),
        ({"prop": Local(eps=0.2)}, "digest="),
    ],
)
def test_resuming_with_other_settings_is_refused_and_changes_nothing(tmp_path, change, said):
    fit(network(), blobs(), settings(3), folder=tmp_path, progress=False)
    files = contents(tmp_path)
    net = network(change.get("prop", Local(eps=0.1)), seed=4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(InvalidInput, match=said) as caught:
        fit(
            net,
            blobs(),
            change.get("optimisation", settings(3)),
            seed=change.get("seed", 0),
            folder=tmp_path,
            resume=True,
            progress=False,
        )
    assert CHECKPOINT in str(caught.value)
    assert contents(tmp_path) == files
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_resuming_into_another_network_is_refused(tmp_path):
    fit(network(), blobs(), settings(1), folder=tmp_path, progress=False)
    with pytest.raises(ModelFileError, match=r"checkpoint\.safetensors cannot be resumed from"):
        fit(network(hidden=(6,)), blobs(), settings(1), folder=tmp_path, resume=True)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_checkpoint_that_was_cut_off_is_refused_and_left_alone(tmp_path, share):
    fit(network(), blobs(), settings(1), folder=tmp_path, progress=False)
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    files = contents(tmp_path)
    with pytest.raises(ModelFileError, match=r"checkpoint\.safetensors"):
        fit(network(), blobs(), settings(1), folder=tmp_path, resume=True, progress=False)
    assert contents(tmp_path) == files


def test_a_model_file_is_no_checkpoint(tmp_path):
    fit(network(), blobs(), settings(1), folder=tmp_path, progress=False)
    (tmp_path / LAST).rename(tmp_path / CHECKPOINT)
    with pytest.raises(ModelFileError, match="not a training checkpoint"):
        fit(network(), blobs(), settings(1), folder=tmp_path, resume=True, progress=False)


def test_resume_needs_a_folder():
    with pytest.raises(InvalidInput, match="resume=True needs folder"):
        fit(network(), blobs(), settings(1), resume=True)


def test_a_nan_loss_names_step_and_epoch_and_leaves_earlier_files_as_they_were(tmp_path):
    fit(network(), blobs(), settings(1), folder=tmp_path, progress=False)
    files = contents(tmp_path)
    inputs, labels = blobs()
    inputs[:] = float("nan")
    with pytest.raises(TrainingError, match="nan at step 0 of epoch 0"):
        fit(network(), (inputs, labels), settings(2), folder=tmp_path, progress=False)
    assert contents(tmp_path) == files


def test_the_step_named_is_the_one_that_holds_the_nan_row():
    inputs, labels = blobs(256)
    inputs[200] = float("nan")
    chosen = settings(1, batch_size=2)
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    step = int((order == 200).nonzero()) // 2
    with pytest.raises(TrainingError, match=f"nan at step {step} of epoch 0"):
        fit(network(), (inputs, labels), chosen, seed=0, progress=False)


def test_a_later_epoch_is_named_too():
    class Poisoned(Plain):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            value, label = super().__getitem__(index)
            return (value * float("nan") if self.reads > 2 * len(self) else value), label

    with pytest.raises(TrainingError, match="at step 0 of epoch 2"):
        fit(network(), Poisoned(*blobs(32)), settings(4), progress=False)


def test_weights_that_the_very_last_step_spoils_are_noticed(tmp_path):
    chosen = settings(1, batch_size=96, learning_rate={"kind": "constant", "value": 1e39})
    with pytest.raises(TrainingError, match="weights are NaN or infinite after epoch 0"):
        fit(network(), blobs(), chosen, folder=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_files_are_whole_at_every_moment(tmp_path, monkeypatch):
    """A crash while a file is written leaves the former one, and no litter."""
    fit(network(), blobs(), settings(1), folder=tmp_path, progress=False)
    files = contents(tmp_path)

    def half_written(tensors, name, metadata):
        name.write_bytes(b"half")
        raise OSError("no space left on device")

    for module in ("relaxcert.heads.model_file", "relaxcert.training.checkpoint"):
        monkeypatch.setattr(f"{module}.save_file", half_written)
    with pytest.raises(OSError, match="no space left"):
        fit(network(), blobs(), settings(1), folder=tmp_path, progress=False)
    assert contents(tmp_path) == files


def test_best_is_the_epoch_with_the_highest_validation_vra(tmp_path, monkeypatch):
    scripted, weights = [0.5, 0.9, 0.9, 0.3], []

    def evaluated(net, inputs, labels):
        weights.append(net.backbone[1].weight.detach().clone())
        vra = scripted[len(weights) - 1]
        figures, certificates = evaluate(net, inputs, labels)
        return replace(figures, vra=vra), certificates

    monkeypatch.setattr("relaxcert.training.loop.evaluate", evaluated)
    history = fit(
        network(),
        blobs(),
        settings(4),
        validation=blobs(seed=2),
        evaluate_every=1,
        folder=tmp_path,
        progress=False,
    )
    assert [epoch.vra for epoch in history.epochs] == scripted
    assert history.best_vra == 0.9
    assert torch.equal(load_model(tmp_path / BEST).net.backbone[1].weight, weights[1])
    assert torch.equal(load_model(tmp_path / LAST).net.backbone[1].weight, weights[3])


def test_without_validation_no_epoch_is_evaluated_and_no_best_is_written(tmp_path):
    history = fit(network(), blobs(), settings(2), folder=tmp_path, progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, LAST}
    assert all(epoch.vra is None for epoch in history.epochs)
    assert history.best_vra == -1.0


def test_last_is_the_network_that_fit_leaves_behind(tmp_path):
    net = network()
    fit(net, blobs(), settings(2, orthogonal=True), folder=tmp_path, progress=False)
    kept = load_model(tmp_path / LAST).net
    assert all(
        map(torch.equal, kept.backbone.state_dict().values(), net.backbone.state_dict().values())
    )


def test_orthogonal_training_leaves_orthogonal_plain_layers():
    net = network(hidden=(8, 8))
    fit(net, blobs(), settings(2, orthogonal=True), progress=False)
    first, second = net.backbone[1].weight.detach(), net.backbone[3].weight.detach()
    assert type(net.backbone[1]) is nn.Linear
    assert torch.allclose(first.mT @ first, torch.eye(CLASSES), atol=1e-5)
    assert torch.allclose(second.mT @ second, torch.eye(8), atol=1e-5)


@pytest.mark.parametrize("kind", [TensorDataset, Plain, lambda *data: data])
def test_every_kind_of_training_data_trains_alike(kind):
    net, other = network(), network()
    fit(net, kind(*blobs()), settings(2), progress=False)
    fit(other, blobs(), settings(2), progress=False)
    assert same_weights(net, other)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("loss", ["cross-entropy", "trades"])
def test_every_norm_and_loss_trains(norm, loss):
    net = network(RelaxedTopK(2, eps=0.02, norm=norm))
    weight = {"kind": "log-half", "start": 0.01, "end": 1.2}
    chosen = settings(6, loss=loss, trades_weight=weight)
    history = fit(net, blobs(), chosen, progress=False)
    figures, _ = evaluate(net, *blobs(seed=1))
    assert figures.vra > 0.9
    assert history.epochs[-1].loss < history.epochs[0].loss


@pytest.mark.parametrize("prop", every_kind(CLASSES), ids=lambda prop: repr(prop)[:40])
@pytest.mark.parametrize("loss", ["cross-entropy", "trades"])
def test_every_kind_of_property_trains_with_finite_loss_and_weights(prop, loss):
    net = network(prop)
    history = fit(net, blobs(48), settings(2, loss=loss), progress=False)
    assert all(torch.tensor([epoch.loss for epoch in history.epochs]).isfinite())
    assert all(bool(p.isfinite().all()) for p in net.parameters())


@BOTH
def test_an_uncovered_class_warns_and_trains_with_finite_loss(orthogonal):
    sets = AffinitySets([[0, 1]], CLASSES)
    with pytest.warns(UncoveredClassWarning):
        net = network(Affinity(sets, eps=0.05))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncoveredClassWarning)
        history = fit(net, blobs(), settings(3, orthogonal=orthogonal), progress=False)
        figures, _ = evaluate(net, *blobs(seed=1))
    assert all(torch.tensor([epoch.loss for epoch in history.epochs]).isfinite())
    assert all(bool(p.isfinite().all()) for p in net.parameters())
    assert figures.vra <= 0.5


def test_margin_scale_trains_for_a_larger_eps():
    plain, wide = network(), network()
    fit(plain, blobs(), settings(6), progress=False)
    fit(wide, blobs(), settings(6, margin_scale=6.0), progress=False)
    radii = [evaluate(net, *blobs(seed=1))[1].radius.median() for net in (plain, wide)]
    assert radii[0] < radii[1]


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        ((torch.zeros(2, CLASSES), torch.tensor([0, 9])), "validation, row 1: label 9"),
        ((torch.zeros(2, CLASSES), torch.tensor([0])), "validation has 2 inputs and 1 labels"),
        ((torch.zeros(0, CLASSES), torch.tensor([]).long()), "validation has 0 inputs"),
    ],
)
def test_bad_validation_data_is_refused_before_the_first_epoch(validation, said, monkeypatch):
    monkeypatch.setattr(EpochBar, "__enter__", lambda self: pytest.fail("training began"))
    with pytest.raises(InvalidInput, match=said):
        fit(network(), blobs(), settings(1), validation=validation)


def test_a_label_out_of_range_names_the_row_before_anything_is_written(tmp_path):
    inputs, labels = blobs()
    labels[11] = CLASSES
    with pytest.raises(InvalidInput, match="row 11: label 4"):
        fit(network(), (inputs, labels), settings(1), folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_patches_that_are_none_are_refused_by_name():
    chosen = settings(1, augmentation="patch-symmetries")
    inputs = torch.zeros(8, 5)
    net = GloRoNet(nn.Sequential(nn.Linear(5, 3)), Local(eps=0.1))
    with pytest.raises(InvalidInput, match="'patch-symmetries' got inputs of shape"):
        fit(net, (inputs, torch.zeros(8).long()), chosen, progress=False)


def test_a_backbone_without_weights_is_refused():
    net = GloRoNet(nn.Sequential(nn.Flatten()), Local(eps=0.1), num_classes=CLASSES)
    with pytest.raises(InvalidInput, match="no weights"):
        fit(net, blobs(), settings(1))


@pytest.mark.parametrize("seed", [2**62, -(2**63), 2**63 - 1])
def test_seeds_of_64_bits_work(seed):
    fit(network(), blobs(16), settings(1), seed=seed, progress=False)


def test_a_longer_seed_is_refused():
    with pytest.raises(InvalidInput, match="seed="):
        fit(network(), blobs(16), settings(1), seed=2**63)
