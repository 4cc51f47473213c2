"""What a test run was given on the command line; whatever is wrong with it is a usage error."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from torch import Tensor

from relaxcert.errors import RelaxcertError, UncoveredClassWarning
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.spec.canonical import digest
from relaxcert.spec.catalogue import load_document
from relaxcert.testing.loading import (
    load_backbone,
    load_points,
    network_of,
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Session:
    """Network, property and points of a run."""

    model: Path
    net: GloRoNet
    data: Path | None
    points: Tensor | None

    def header(self, profile: str) -> list[str]:
        """Lines that say what is under test."""
        count = "no data" if self.points is None else f"{len(self.points)} points of {self.data}"
        return [
            f"relaxcert: {self.model}, {self.net.num_classes} classes; {count}; profile {profile}",
            f"relaxcert: {self.net.prop!r}, sha256 {digest(self.net.prop)[:16]}",
        ]


def open_session(model: Path, prop: str | None, data: str | None) -> Session:
    """Read everything; raises pytest.UsageError, which names the option, for what does not fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncoveredClassWarning)
        document = None
        if prop is not None:
            document = _under("property", lambda: load_document(prop))
        best = "max" if document is None else document.best
        found = _under("model", lambda: load_backbone(model, best=best))
        wanted = found.prop if document is None else document.to_property()
        if wanted is None:
            raise pytest.UsageError(
                f"--relaxcert-property is missing: {model} holds no property of its own."
            )
        option = "model" if prop is None else "property"
        net = _under(option, lambda: network_of(found, wanted, document))
        _under("model", lambda: net.lipschitz.live_graph())
        points = None
        if data is not None:
            points = _under("data", lambda: load_points(Path(data), net, found.input_shape))
            _under("model", net.verify)
    return Session(model, net, None if data is None else Path(data), points)


def _under(option: str, read: Callable[[], Result]) -> Result:
    try:
        return read()
    except RelaxcertError as error:
        raise pytest.UsageError(f"--relaxcert-{option}: {error}") from error
