"""``fit``: train a network for its property, reproducibly and resumably."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relaxcert.data.landsat import Split
from relaxcert.errors import InvalidInput, TrainingError
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.training.augmentation import patch_symmetries
from relaxcert.training.batches import Batches, TrainingData, check_labels, mixed
from relaxcert.training.checkpoint import load_checkpoint, save_checkpoint
from relaxcert.training.evaluation import evaluate
from relaxcert.training.forms import in_plain_form, in_training_form
from relaxcert.training.history import Epoch, History
from relaxcert.training.image_augmentation import augmented_images
from relaxcert.training.objective import Gradient
from relaxcert.training.progress import EpochBar
from relaxcert.training.ranks import present_ranks
from relaxcert.training.recipe import Optimisation

CHECKPOINT, LAST, BEST = "checkpoint.safetensors", "last.safetensors", "best.safetensors"
_LOOK_EVERY = 50  # steps between looks at the loss: a look waits for the device
_SAVE_EVERY = 30.0  # seconds after which an epoch that ends is kept, evaluated or not


def fit(
    net: GloRoNet,
    train_data: TrainingData,
    optimisation: Optimisation | None = None,
    *,
    validation: Split | tuple[Tensor, Tensor] | None = None,
    evaluate_every: int | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """Train ``net`` in place for its property and leave it in eval mode.

    Runs on the device of the network's weights. The order of the batches depends on ``seed`` and
    the epoch alone; on one device a resumed run gives the same bits as an unbroken one.

    Where torch.distributed is initialised, all ranks call ``fit`` with the same arguments: each
    batch is split among them, the gradient is that of the batch's mean loss, validation figures
    are those of all points, and the first rank alone writes and shows progress. A run may be
    resumed by another number of ranks, with the same results up to rounding.

    Args:
        net: the network; its backbone keeps its plain layers (those that the settings train as
            orthogonal, almost orthogonal or normalised are written back as numbers).
        train_data: a Split, (inputs, labels), or a map-style Dataset of (input, label); points are
            rounded to the precision of the weights.
        optimisation: epochs, batch size, schedules, loss; the defaults suit small dense networks.
        validation: labelled points that are certified now and then; never the test part.
        evaluate_every: epochs between evaluations; default: ten times a run.
        seed: of the batch order, dropout, augmentation and fresh orthogonal weights.
        folder: where ``checkpoint.safetensors`` (after each epoch evaluated, the last, and the
            first that ends 30 s after one was written), ``last.safetensors`` and
            ``best.safetensors`` (by validation VRA) are written.
        resume: continue from the checkpoint in ``folder``, if there is one.
        progress: show a bar with rate and estimate when attached to a terminal.

    Returns:
        The history.

    Raises:
        TrainingError: the loss is NaN or infinite; names the step. The files stay as they were.
        InvalidInput: a label out of range (names the row), or settings that do not fit together.
        ModelFileError: the checkpoint cannot be resumed from.
    """
    if resume and folder is None:
        raise InvalidInput("resume=True needs folder=...: it names where the checkpoint lies.")
    if not -(2**63) <= seed < 2**63:
        raise InvalidInput(f"seed={seed} must fit in 64 bits.")
    _check_validation(validation, net.num_classes)
    run = Run(net, train_data, optimisation or Optimisation(), seed)
    where = None if folder is None else Path(folder)
    if resume and where is not None and (where / CHECKPOINT).exists():
        run.restore(where / CHECKPOINT)
    run.check_same_start()
    every = evaluate_every or max(1, run.settings.epochs // 10)
    done, total = len(run.epochs), run.settings.epochs
    saved = time.monotonic()
    shown = EpochBar(total, done=done, enabled=progress and run.ranks.first)
    with torch.random.fork_rng(devices=[]), shown as bar:
        for number in range(done, total):
            loss, seconds = run.train_epoch(number)
            due = (number + 1) % every == 0 or number + 1 == total
            run.finish_epoch(number, loss, seconds, validation if due else None)
            if where is not None and (due or time.monotonic() - saved > _SAVE_EVERY):
                run.save(where)
                saved = time.monotonic()
            bar.advance(run.epochs[-1].loss, run.epochs[-1].vra)
    run.write_back()
    net.eval()
    return History(tuple(run.epochs))


@dataclass
class Run:
    """The state of one training run; :func:`fit` is what to call."""

    net: GloRoNet
    data: TrainingData
    settings: Optimisation
    seed: int
    epochs: list[Epoch] = field(default_factory=list[Epoch])

    def __post_init__(self) -> None:
        weights = next(self.net.backbone.parameters(), None)
        if weights is None:
            raise InvalidInput("the backbone has no weights, so there is nothing to train.")
        self.ranks = present_ranks()
        size, classes = self.settings.batch_size, self.net.num_classes
        self.batches = Batches(self.data, size, classes, weights.device, self.ranks)
        self.trained = self._trained_twin()
        self.optimizer = torch.optim.Adam(
            self.trained.backbone.parameters(),
            lr=1.0,
            weight_decay=self.settings.weight_decay,
            fused=weights.device.type in ("cpu", "cuda"),
        )
        self.gradient = Gradient(self.trained, self.settings)
        self.augment = _AUGMENTATIONS[self.settings.augmentation]

    def _trained_twin(self) -> GloRoNet:
        """The network that is optimised: the given one, or its twin with computed weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            twin = in_training_form(self.net.backbone, self.settings)
        if twin is self.net.backbone:
            return self.net
        return GloRoNet(twin, self.net.prop, self.net.num_classes)

    def train_epoch(self, number: int) -> tuple[float, float]:
        """One pass over the data; returns mean loss and seconds."""
        started = time.perf_counter()
        # Ranks have other points, so they draw other augmentations and dropout masks for them.
        torch.manual_seed(mixed(self.seed, number) ^ (self.ranks.rank << 48))
        self.trained.train()
        seen: list[Tensor] = []
        losses: list[Tensor] = []
        steps = len(self.batches)
        batches = zip(self.batches.epoch(self.seed, number), self.batches.shares(), strict=True)
        for step, ((inputs, labels), share) in enumerate(batches):
            losses.append(self._step(inputs, labels, share, number + step / steps))
            if (step + 1) % _LOOK_EVERY == 0 or step + 1 == steps:
                seen.append(self.ranks.total(torch.stack(losses)))
                _check_finite(seen[-1], step + 1 - len(losses), number)
                losses.clear()
        self._check_weights(number)
        self.ranks.take_from_first(self.trained.lipschitz.buffers())
        return float(torch.cat(seen).mean()), time.perf_counter() - started

    def first_steps(self, count: int) -> list[tuple[float, float]]:
        """Make the first steps of the run, whatever the epoch; loss and seconds of each."""
        made: list[tuple[float, float]] = []
        self.trained.train()
        for number in range(count):
            torch.manual_seed(mixed(self.seed, number))
            for step, batch in enumerate(self.batches.epoch(self.seed, number)):
                if len(made) == count:
                    return made
                started = time.perf_counter()
                loss = self._step(*batch, 1.0, number + step / len(self.batches))
                _check_finite(loss[None], step, number)
                made.append((float(loss), time.perf_counter() - started))
                self._check_weights(number)
        return made

    def _step(self, inputs: Tensor, labels: Tensor, share: float, epoch: float) -> Tensor:
        progress = epoch / self.settings.epochs
        if inputs.is_floating_point():
            # Training claims nothing, so numpy's float64 may be rounded to the weights' precision.
            inputs = inputs.to(next(self.trained.backbone.parameters()).dtype)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate.at(progress)
        self.optimizer.zero_grad(set_to_none=True)
        schedule = self.settings.trades_weight
        weight = 1.0 if schedule is None else schedule.at(progress)
        loss = self.gradient.add(self.augment(inputs), labels, weight, share)
        self.optimizer.step()
        return loss

    def _check_weights(self, number: int) -> None:
        """The last step may have spoilt the weights, which no loss has seen yet."""
        finite = [p.isfinite().all() for p in self.trained.backbone.parameters()]
        if not bool(torch.stack(finite).all()):
            raise TrainingError(
                f"the weights are NaN or infinite after epoch {number}: lower the learning rate."
            )

    def finish_epoch(
        self,
        number: int,
        loss: float,
        seconds: float,
        validation: Split | tuple[Tensor, Tensor] | None,
    ) -> None:
        """Write the weights back and record the epoch, evaluated if validation data is given."""
        rate = self.settings.learning_rate.at((number + 1) / self.settings.epochs)
        record = Epoch(number, loss, rate, seconds)
        if validation is not None:
            self.write_back()
            device = next(self.net.backbone.parameters()).device
            own = slice(self.ranks.rank, None, self.ranks.count)
            inputs, labels = (tensor[own].to(device) for tensor in _pair(validation))
            figures, _ = evaluate(self.net, inputs, labels)
            record = Epoch(
                number,
                loss,
                rate,
                seconds,
                figures.vra,
                figures.rejection_rate,
                figures.clean_accuracy,
            )
        self.epochs.append(record)

    def write_back(self) -> None:
        """Copy what was trained into the network's own layers, as plain numbers."""
        if self.trained is self.net:
            return
        with torch.no_grad():
            self.net.backbone.load_state_dict(in_plain_form(self.trained.backbone).state_dict())

    def save(self, folder: Path) -> None:
        """Write checkpoint, last and (if it is) best model; each atomically, by the first rank."""
        self.write_back()
        if not self.ranks.first:
            return
        state = {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "seed": self.seed,
            "digest": self.net.digest,
            "optimisation": self.settings.model_dump(mode="json"),
        }
        save_model(self.net, folder / LAST)
        latest = self.epochs[-1].vra
        earlier = History(tuple(self.epochs[:-1])).best_vra
        if latest is not None and latest > earlier:
            save_model(self.net, folder / BEST)
        save_checkpoint(
            folder / CHECKPOINT, net=self.trained, optimizer=self.optimizer, state=state
        )

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint of the same property, seed and settings."""
        expected = self._settings_to_keep()

        def check(state: Mapping[str, Any]) -> None:
            # Settings that are newer than the file have their default in it.
            defaults = Optimisation().model_dump(mode="json")
            settings: dict[str, Any] = {**defaults, **state, **dict(state["optimisation"])}
            for name, value in expected.items():
                if settings.get(name) != value:
                    raise InvalidInput(
                        f"{path} was written with {name}={settings.get(name)!r}, but this run has "
                        f"{value!r}: use the same settings, or start without resume."
                    )
            self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]

        load_checkpoint(path, net=self.trained, optimizer=self.optimizer, check=check)
        self.write_back()

    def check_same_start(self) -> None:
        """Raise TrainingError if the ranks would start with different epochs."""
        device = next(self.net.backbone.parameters()).device
        self.ranks.check_same("the epochs that are done", len(self.epochs), device)

    def _settings_to_keep(self) -> dict[str, Any]:
        settings = self.settings.model_dump(mode="json")
        return {"seed": self.seed, "digest": self.net.digest, **settings}


_AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda inputs: inputs,
    "patch-symmetries": patch_symmetries,
    "images": augmented_images,
    "images-unflipped": partial(augmented_images, flip=False),
}


def _check_validation(data: Split | tuple[Tensor, Tensor] | None, num_classes: int) -> None:
    """Raise InvalidInput before the first epoch rather than after it."""
    if data is None:
        return
    inputs, labels = _pair(data)
    check_labels(labels, num_classes, where="validation, ")
    if len(inputs) != len(labels) or len(labels) == 0:
        raise InvalidInput(
            f"validation has {len(inputs)} inputs and {len(labels)} labels: give at least one "
            "point and one label a point."
        )


def _pair(data: Split | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return (data.inputs, data.labels) if isinstance(data, Split) else data


def _check_finite(losses: Tensor, first: int, epoch: int) -> None:
    finite = losses.isfinite()
    if bool(finite.all()):
        return
    place = int((~finite).int().argmax())
    raise TrainingError(
        f"the loss is {float(losses[place])} at step {first + place} of epoch {epoch}: check the "
        "inputs for NaN and huge values, or lower the learning rate."
    )
