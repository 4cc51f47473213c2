"""Certificates of convolutional networks, from certify to an accepted file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from relaxcert import checker
from relaxcert.lipschitz import supported
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.spec import RelaxedTopK
from tests.networks import NORMS, randn
from tests.proofs.made import Artefacts, made, sealed

pytestmark = pytest.mark.skipif(nn.Conv2d not in supported(), reason="needs rules for convolutions")


def convolutional(folder, norm: str) -> Artefacts:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        InputNormalisation(torch.full((4, 1, 1), 0.5), 0.25),
        nn.Conv2d(4, 6, 3, padding=1),
        MinMax(),
        nn.Conv2d(6, 4, 2, stride=2, groups=2, bias=False),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    points = randn(1, 6, 4, 5, 5, dtype=torch.float32)
    return made(folder, lambda eps: RelaxedTopK(2, eps=eps, norm=norm), backbone=backbone,
                inputs=points)  # fmt: skip


@pytest.mark.parametrize("norm", NORMS)
def test_convolutional_networks_are_accepted(norm, tmp_path):
    artefacts = convolutional(tmp_path, norm)
    accepted = artefacts.check()
    assert accepted.certified == int(artefacts.certificates.certified.sum()) > 0


def test_a_convolution_bound_below_the_norm_is_rejected(tmp_path):
    artefacts = convolutional(tmp_path, "linf")
    lines = artefacts.lines()
    place = next(i for i, line in enumerate(lines) if line.get("layer") == "1")
    lines[place]["bound"] *= 1 - 1e-9
    with pytest.raises(checker.Rejected) as caught:
        artefacts.check(certificate=sealed(lines, tmp_path / "changed"))
    assert caught.value.step == "bound of layer 1 (linf)"


def test_points_of_another_shape_are_not_those(tmp_path):
    artefacts = convolutional(tmp_path, "l2")
    flat = artefacts.inputs.flatten(1).numpy()
    with pytest.raises(checker.Unreadable, match="does not fit"):
        artefacts.check(data=np.ascontiguousarray(flat))
