"""Small problems that a network learns in a second, and networks for them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.nn.networks import dense
from relaxcert.spec import Local, Property
from relaxcert.training.history import History
from relaxcert.training.recipe import Optimisation
from relaxcert.training.schedules import Constant
from tests.networks import randn

CLASSES = 4
LOCAL = Local(eps=0.1)


def blobs(points: int = 96, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Four well separated clouds in four dimensions."""
    labels = torch.arange(points) % CLASSES
    centres = torch.eye(CLASSES) * 2.0
    noise = 0.25 * randn(seed, points, CLASSES, dtype=torch.float32)
    return centres[labels] + noise, labels


class Plain(Dataset[tuple[Tensor, int]]):
    """A map-style Dataset that is no TensorDataset, with Python integers as labels."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.inputs[index], int(self.labels[index])


def network(prop: Property = LOCAL, seed: int = 0, hidden: tuple[int, ...] = (8,)) -> GloRoNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GloRoNet(dense(CLASSES, hidden, CLASSES), prop)


def settings(epochs: int = 3, **more: object) -> Optimisation:
    given = {"batch_size": 16, "learning_rate": Constant(value=1e-2), **more}
    return Optimisation(epochs=epochs, **given)


def same_weights(left: GloRoNet, right: GloRoNet) -> bool:
    """Bit for bit, weights and power iterates."""
    mine, theirs = left.state_dict(), right.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def without_time(history: History) -> list[tuple[object, ...]]:
    return [
        (e.epoch, e.loss, e.learning_rate, e.vra, e.rejection_rate, e.clean_accuracy)
        for e in history.epochs
    ]
