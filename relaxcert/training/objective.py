"""The loss of a batch as one pure function of inputs and labels, and its gradient by parts."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.training.losses import certified_set, cross_entropy, trades
from relaxcert.training.ranks import present_ranks
from relaxcert.training.recipe import Optimisation


class Objective(nn.Module):
    """Mean loss of a batch: what a training step differentiates, and what may be compiled.

    No host synchronisation, one graph. With ``precision = "bf16"`` the backbone runs under
    autocast; bounds, margins and loss stay in the precision of the weights (see
    :meth:`GloRoNet.forward`).

    Args:
        net: the network to train, in train mode when called.
        settings: loss, temperature, margin scale, precision.

    Raises:
        InvalidInput: bf16 for weights that are not float32.
    """

    def __init__(self, net: GloRoNet, settings: Optimisation) -> None:
        super().__init__()
        self.net, self.settings = net, settings
        weights = next(net.backbone.parameters())
        self.device_type = weights.device.type
        if settings.precision == "bf16" and weights.dtype != torch.float32:
            raise InvalidInput(
                f"precision='bf16' needs float32 weights, got {weights.dtype}: convert the "
                "network with .float(), or train with precision='float32'."
            )

    def forward(self, inputs: Tensor, labels: Tensor, trades_weight: Tensor) -> Tensor:
        """Inputs (batch, ...), labels (batch,) int64, lambda of TRADES () -> scalar."""
        temperature, scale = self.settings.temperature, self.settings.margin_scale
        if self.settings.loss == "certified-set":
            with self._precision():
                logits, margins = self.net.label_margins(inputs, labels, margin_scale=scale)
            weight = self.settings.ranking_weight
            return certified_set(
                logits, margins, labels, temperature=temperature, ranking_weight=weight
            )
        with self._precision():
            outputs = self.net(inputs, margin_scale=scale)
        if self.settings.loss == "cross-entropy":
            return cross_entropy(outputs, labels, temperature=temperature)
        return trades(outputs, labels, weight=trades_weight, temperature=temperature)

    def _precision(self) -> AbstractContextManager[object]:
        if self.settings.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device_type, dtype=torch.bfloat16)


class Gradient:
    """The gradient of the mean loss of a batch, from parts of it.

        mean over the batch = sum over parts of (points in part / points in batch) * mean over part

    Each of several ranks takes a share of the batch, and each share comes in ``accumulate`` parts.
    DistributedDataParallel averages over the ranks, so that each multiplies by their number.

    All parts see the same bounds: each makes its power iterations from the same iterates, and
    only the last part's are kept, so that the result is that of the whole batch up to rounding.
    (Dropout draws other masks.)
    """

    def __init__(self, net: GloRoNet, settings: Optimisation) -> None:
        if settings.accumulate > settings.batch_size:
            raise InvalidInput(
                f"accumulate={settings.accumulate} asks for more parts than a batch has points "
                f"(batch_size={settings.batch_size}): take at most as many."
            )
        self.net, self.accumulate = net, settings.accumulate
        self.ranks = present_ranks()
        objective = Objective(net, settings)
        # compile() in place: the parameters keep their names.
        if settings.compile:
            objective.compile()
        self.loss: Objective | DistributedDataParallel = objective
        if self.ranks.count > 1:
            # Its buffers, the power iterates, are taken from rank 0 before each pass.
            self.loss = DistributedDataParallel(objective)

    def add(
        self, inputs: Tensor, labels: Tensor, trades_weight: float, share: float = 1.0
    ) -> Tensor:
        """Add the gradient to ``grad`` of the weights; returns this rank's loss, detached, scalar.

        ``share``: points here / points of the whole batch, 0 for a rank that has none and takes
        part with any point. The losses of all ranks sum to the mean loss of the batch.
        """
        # Filled, not copied: a copy from the host would make it wait for the device.
        weight = torch.full((), trades_weight, device=inputs.device)
        total = torch.zeros((), device=inputs.device)
        size = -(-len(inputs) // self.accumulate)
        parts = list(zip(inputs.split(size), labels.split(size), strict=True))
        for number, (points, wanted) in enumerate(parts):
            last = number + 1 == len(parts)
            self.net.lipschitz.train(last)
            with self._exchange(now=last):
                loss = self.loss(points, wanted, weight) * (len(points) / len(inputs) * share)
                (loss * self.ranks.count).backward()
            total = total + loss.detach()
        return total

    def _exchange(self, *, now: bool) -> AbstractContextManager[object]:
        """Sum the gradients over the ranks in this backward pass, or later."""
        if now or not isinstance(self.loss, DistributedDataParallel):
            return nullcontext()
        return self.loss.no_sync()
