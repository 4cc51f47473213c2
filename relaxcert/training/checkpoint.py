"""Training checkpoints: one safetensors file from which a run continues bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from relaxcert.errors import ModelFileError, RelaxcertError
from relaxcert.files import write_atomically

_FORMAT = "relaxcert-checkpoint"


def save_checkpoint(
    path: Path,
    *,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
) -> None:
    """Write weights, power iterates, optimiser state and ``state`` (JSON)."""
    tensors = {f"net/{name}": value for name, value in net.state_dict().items()}
    slots: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    for index, slot in slots.items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in slot.items()}
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    metadata = {"format": _FORMAT, "state": json.dumps(dict(state))}
    write_atomically(path, lambda name: save_file(plain, name, metadata))


def load_checkpoint(
    path: Path,
    *,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    check: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Restore ``net`` and ``optimizer`` in place; return the JSON state.

    ``check`` is called with the state first, and may raise: nothing is restored then.

    Raises:
        ModelFileError: not a checkpoint, cut off, or of another network.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata: dict[str, str] = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ModelFileError(f"{path} is not a training checkpoint of relaxcert.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state: dict[str, Any] = dict(json.loads(metadata["state"]))
        check(state)
        net.load_state_dict(_under(tensors, "net/"))
        _restore_optimizer(optimizer, _under(tensors, "optimizer/"))
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        if isinstance(error, RelaxcertError):
            raise
        raise ModelFileError(
            f"{path} cannot be resumed from ({error}): start again without resume, or give the "
            "network and settings that it was written with."
        ) from error
    return state


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
