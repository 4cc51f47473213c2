"""Where results come from: enough to make them again and to see whether they are the same."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def made_from(
    inputs: Tensor,
    *,
    command: str,
    model: Path | None = None,
    notes: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What a summary says of its origin.

    Args:
        inputs: the points as they were certified, (points, ...).
        command: as it was typed.
        model: the file of the network, if there is one.
        notes: of the model file, such as recipe and seed.
    """
    return {
        "command": command,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "input_shape": list(inputs.shape[1:]),
        "data_sha256": points_sha256(inputs),
        "model_sha256": None if model is None else file_sha256(model),
        "notes": dict(notes or {}),
        "computed_on": {
            "platform": platform.platform(),
            "device": str(inputs.device),
            "threads": torch.get_num_threads(),
        },
    }


def points_sha256(inputs: Tensor) -> str:
    """SHA-256 (hex) of shape and float64 values, as cross-checks write it."""
    numbers = np.ascontiguousarray(inputs.detach().double().cpu().numpy())
    digest = hashlib.sha256(repr(numbers.shape).encode())
    digest.update(numbers.tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
