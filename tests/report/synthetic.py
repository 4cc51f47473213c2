"""Verdict folders made by the real writers, from small networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from relaxcert.heads.gloronet import GloRoNet
from relaxcert.report.provenance import made_from
from relaxcert.report.verdicts import summary_of, write_verdicts
from relaxcert.spec import Affinity, AffinitySets, Property
from relaxcert.training.evaluation import figures_of
from tests.networks import linear

HOSTILE = "<script>alert('class')</script>"


def prototypes(classes: int, points: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points near unit vectors, in fives that are near one another; and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (points,), generator=generator)
    centre = torch.eye(classes) + 0.8 * (
        torch.arange(classes)[:, None] // 5 == torch.arange(classes)[None] // 5
    )
    return centre[labels] + 0.25 * torch.randn(points, classes, generator=generator), labels


def write_run(
    folder: Path,
    prop: Property,
    inputs: torch.Tensor,
    labels: torch.Tensor | None,
    names: Sequence[str] | None,
    **more: object,
) -> GloRoNet:
    """Certify f(x) = x at the points and write verdicts as the commands do."""
    net = GloRoNet(nn.Sequential(linear(torch.eye(inputs.shape[1]), dtype=torch.float32)), prop)
    certificates = net.certify(inputs)
    summary = summary_of(
        certificates,
        None if labels is None else figures_of(certificates, labels),
        bounds=net.lipschitz.table(),
        class_names=names,
        labels=labels,
        **{**made_from(inputs, command="relaxcert certify made-up"), **more},
    )
    write_verdicts(folder, certificates, labels, summary)
    return net


def write_large(folder: Path) -> None:
    """10,000 points, 100 classes, 20 affinity sets; the first class has a hostile name."""
    inputs, labels = prototypes(100, 10_000)
    names = [HOSTILE, *(f"class {i} of the hundred" for i in range(1, 100))]
    sets = AffinitySets.from_superclasses([i // 5 for i in range(100)], class_names=names)
    write_run(folder, Affinity(sets, eps="0.1"), inputs, labels, names)
