"""Training data as reproducible batches: tensors, or any map-style Dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from relaxcert.data.landsat import Split
from relaxcert.errors import InvalidInput
from relaxcert.training.ranks import Ranks

ALONE = Ranks()
TrainingData = Split | tuple[Tensor, Tensor] | Dataset[Any]


class Batches:
    """Shuffled batches whose order depends on (seed, epoch) alone, so that a resumed run agrees.

    Args:
        data: a Split, (inputs, labels), or a map-style Dataset of (input, label).
        batch_size: points a batch; a shorter last batch is kept.
        num_classes: labels must lie in 0..num_classes - 1.
        device: where batches are put.
        ranks: of several processes each gets a strided, unpadded share of every batch.

    Raises:
        InvalidInput: empty data, a label out of range (names the row), sizes that disagree.
    """

    def __init__(
        self,
        data: TrainingData,
        batch_size: int,
        num_classes: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        if batch_size < 1:
            raise InvalidInput(f"batch_size={batch_size} must be at least 1.")
        self.batch_size, self.num_classes, self.device = batch_size, num_classes, device
        self.ranks = ranks
        self.tensors = _tensors(data)
        self.dataset = None if self.tensors is not None else cast("Dataset[Any]", data)
        if self.tensors is not None:
            inputs, labels = self.tensors
            check_labels(labels, num_classes)
            if len(inputs) != len(labels):
                raise InvalidInput(
                    f"train_data has {len(inputs)} inputs and {len(labels)} labels: give one label "
                    "a point."
                )
            self.tensors = inputs.to(device), labels.to(device, torch.int64)
            self.points = len(labels)
        else:
            self.points = len(cast(Sized, data))
        if self.points == 0:
            raise InvalidInput("train_data is empty: give at least one point.")

    def __len__(self) -> int:
        return -(-self.points // self.batch_size)

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch, of several ranks this one's share of each.

        A rank without a point of its own (a last batch smaller than the number of ranks) gets the
        first of the batch, so that all take the same steps; its share is 0.
        """
        generator = torch.Generator().manual_seed(mixed(seed, epoch))
        order = torch.randperm(self.points, generator=generator)
        if self.tensors is not None:
            inputs, labels = self.tensors
            for batch in order.to(self.device).split(self.batch_size):
                rows = self._own(batch)
                yield inputs[rows], labels[rows]
            return
        own = [self._own(batch) for batch in order.split(self.batch_size)]
        # The generator keeps the loader away from torch's global one.
        loader = DataLoader(
            cast("Dataset[Any]", self.dataset),
            batch_sampler=[rows.tolist() for rows in own],
            generator=generator,
        )
        for rows, (inputs, labels) in zip(own, loader, strict=True):
            checked = torch.as_tensor(labels)
            check_labels(checked, self.num_classes, rows=rows)
            yield inputs.to(self.device), checked.to(self.device, torch.int64)

    def shares(self) -> Iterator[float]:
        """Beside ``epoch``: points of this rank / points of the batch; they sum to 1 over ranks."""
        for start in range(0, self.points, self.batch_size):
            size = min(self.batch_size, self.points - start)
            yield len(range(self.ranks.rank, size, self.ranks.count)) / size

    def _own(self, batch: Tensor) -> Tensor:
        own = batch[self.ranks.rank :: self.ranks.count]
        return own if len(own) else batch[:1]


def mixed(seed: int, epoch: int) -> int:
    """One seed from two numbers; distinct for all that occur."""
    return (seed * 1_000_003 + epoch) % 2**63


def _tensors(data: TrainingData) -> tuple[Tensor, Tensor] | None:
    if isinstance(data, Split):
        return data.inputs, data.labels
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        return data.tensors[0], data.tensors[1]
    if isinstance(data, tuple):
        return data
    return None


def check_labels(
    labels: Tensor, num_classes: int, *, where: str = "", rows: Tensor | None = None
) -> None:
    """Raise InvalidInput unless labels are whole numbers in 0..num_classes - 1; names the row.

    ``rows`` are the numbers of the rows, where the labels are not all of them in order.
    """
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex():
        raise InvalidInput(
            f"{where}labels has shape {tuple(labels.shape)} and dtype {labels.dtype}, expected one "
            "whole number a point."
        )
    wrong = (labels < 0) | (labels >= num_classes)
    if bool(wrong.any()):
        place = int(wrong.int().argmax())
        row = place if rows is None else int(rows[place])
        raise InvalidInput(
            f"{where}row {row}: label {int(labels[place])} is out of range: with {num_classes} "
            f"classes, labels go from 0 to {num_classes - 1}."
        )
