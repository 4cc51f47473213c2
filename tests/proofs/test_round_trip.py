"""What relaxcert certifies, the checker accepts: every kind of property, norm, layer and file."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from relaxcert import checker
from relaxcert.checker.points import scaled
from relaxcert.errors import InvalidInput
from relaxcert.heads import GloRoNet
from relaxcert.nn.layers import InputNormalisation, MinMax
from relaxcert.proofs import write_proof
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK
from tests.networks import NORMS, every_kind, linear, randn, random_backbone
from tests.proofs.made import made

KINDS = range(len(every_kind(4)))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_certificates_of_every_kind_are_accepted(kind, norm, tmp_path):
    artefacts = made(tmp_path, lambda eps: every_kind(4, eps, norm)[kind])
    accepted = artefacts.check()
    assert accepted.certified == int(artefacts.certificates.certified.sum()) > 0
    assert accepted.points == 7
    assert accepted.digest == artefacts.net.digest


@pytest.mark.parametrize(
    "backbone",
    [
        nn.Sequential(linear(randn(1, 3, 4))),
        nn.Sequential(linear(randn(1, 3, 4), dtype=torch.float32), nn.Identity()),
        nn.Sequential(linear(randn(1, 4, 4)), nn.ReLU()),  # no last linear layer to compare rows of
        nn.Sequential(
            InputNormalisation(torch.tensor([0.1, 0.2, 0.3, 0.4]), 0.3),
            nn.Sequential(nn.Flatten(), nn.Sequential(linear(randn(3, 6, 4), [1] * 6), MinMax())),
            nn.Dropout(0.5),
            linear(randn(5, 3, 6)),
        ).float(),
        nn.Sequential(linear(1e-60 * randn(6, 9, 4)), nn.ReLU(), linear(1e50 * randn(7, 3, 9))),
        nn.Sequential(linear(torch.zeros(3, 4)), nn.ReLU(), linear(randn(8, 3, 3), [0, 1, 3])),
        nn.Sequential(linear(torch.ones(5, 4)), nn.ReLU(), linear(randn(9, 3, 5))),  # rank one
        nn.Sequential(linear(torch.eye(4)), MinMax(), linear(randn(9, 3, 4))),  # clustered
    ],
    ids=["linear", "identity", "no last", "nested", "tiny", "zero", "rank one", "orthogonal"],
)  # fmt: skip
def test_networks_of_every_shape_are_accepted(backbone, tmp_path):
    points, classes = randn(20, 6, 4, dtype=torch.float32), None
    if isinstance(backbone[-1], nn.ReLU):
        classes = 4
    radii = GloRoNet(backbone, Local(eps=1), classes).certify(points).radius
    eps = float(radii[radii > 0].median()) if bool(radii.isfinite().all()) else 1.0
    artefacts = made(
        tmp_path,
        lambda eps: Local(eps=eps),
        backbone=backbone,
        inputs=points,
        eps=eps * (1 - 1e-9),
        num_classes=classes,
    )
    assert artefacts.check().certified == int(artefacts.certificates.certified.sum()) > 0


def test_a_layer_that_is_used_twice_has_two_bounds(tmp_path):
    shared = linear(randn(30, 4, 4), randn(31, 4))
    backbone = nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), linear(randn(32, 3, 4)))
    artefacts = made(tmp_path, lambda eps: Local(eps=eps), backbone=backbone)
    layers = [line["layer"] for line in artefacts.lines() if line["kind"] == "bound"]
    assert layers == ["0", "2"]  # the last layer is compared row by row
    assert artefacts.check().certified > 0


@pytest.mark.parametrize("suffix", ["npz", "npy", "csv", "labelled.csv", "plain.csv"])
def test_points_from_every_kind_of_file(suffix, tmp_path):
    artefacts = made(tmp_path, lambda eps: Local(eps=eps))
    numbers, path = artefacts.inputs.numpy(), tmp_path / f"other.{suffix}"
    rows = [",".join(map(repr, row)) for row in numbers.astype(float).tolist()]
    match suffix:
        case "npz":
            np.savez_compressed(path, x=numbers)
        case "npy":
            np.save(path, np.asfortranarray(numbers.astype(np.float64)))
        case "csv":
            path.write_text("a,b,c,d\n" + "\n".join(rows))
        case "labelled.csv":
            path.write_text("a,b,c,d,label\n" + "".join(row + ",1\n" for row in rows))
        case _:
            path.write_text("".join(row + ",2\n" for row in rows))
    assert artefacts.check(data=path).certified > 0


@pytest.mark.parametrize("scale", [255.0, 0.1, 3.0, 7e-5, 1e20])
@pytest.mark.parametrize("kind", ["u1", "f4", "f8", "i4"])
def test_the_division_by_scale_is_the_certifiers(kind, scale):
    """The checker's division is done by numpy, the certifier's by torch: the same floats."""
    numbers = (np.abs(randn(3, 50, 4).numpy()) * 60).astype(kind)
    read = torch.from_numpy(numbers.astype("f4" if np.can_cast(kind, "f4") else "f8"))
    assert np.array_equal((read / scale).numpy(), scaled(numbers, scale))


def test_nothing_certified_is_accepted_as_nothing(tmp_path):
    artefacts = made(tmp_path, lambda eps: Local(eps=eps), eps=1e9)
    assert artefacts.check().certified == 0


def test_an_infinite_radius_is_claimed_and_checked(tmp_path):
    """Logits that differ by a constant: every radius is right."""
    backbone = nn.Sequential(linear([[1, 0], [1, 0], [1, 0]], [3, 2, 1]))
    artefacts = made(tmp_path, lambda eps: RelaxedTopK(2, eps=eps), backbone=backbone,
                     inputs=randn(1, 3, 2), eps=5)  # fmt: skip
    assert artefacts.certificates.radius.tolist() == [math.inf] * 3
    assert artefacts.check().certified == 3
    assert '"radius":"inf"' in artefacts.certificate.read_text()


def test_another_property_than_the_models_must_be_asked_for(tmp_path):
    artefacts = made(tmp_path, lambda eps: Local(eps=eps))
    wider = GloRoNet(artefacts.net.backbone, RelaxedTopK(2, eps="1/1000")).eval()
    path = write_proof(wider, artefacts.inputs, wider.certify(artefacts.inputs), tmp_path / "other")
    with pytest.raises(checker.Rejected, match="property"):
        artefacts.check(certificate=path)
    assert artefacts.check(certificate=path, digest=wider.digest).digest == wider.digest


def test_a_property_of_the_users_own_is_refused_by_name(tmp_path):
    sets = AffinitySets([[0, 1], [2], [3]], 4)

    class Own(Affinity):
        pass

    net = GloRoNet(random_backbone(1, normalise=True), Own(sets, eps="1/1000")).eval()
    points = randn(2, 4, 4, dtype=torch.float32)
    path = write_proof(net, points, net.certify(points), tmp_path / "own.cert")
    artefacts = made(tmp_path, lambda eps: Local(eps=eps), eps="1/1000")
    with pytest.raises(checker.Unreadable, match="kind 'prefix'"):
        checker.check(path, model=artefacts.model, data=points.numpy(), digest=net.digest)


def test_certificates_of_other_points_or_weights_are_not_written(tmp_path):
    artefacts = made(tmp_path, lambda eps: Local(eps=eps))
    net, certificates = artefacts.net, artefacts.certificates
    with pytest.raises(InvalidInput, match="7 points, inputs 6"):
        write_proof(net, artefacts.inputs[:6], certificates, tmp_path / "x")
    with pytest.raises(InvalidInput, match="property"):
        write_proof(
            GloRoNet(net.backbone, Local(eps=9)), artefacts.inputs, certificates, tmp_path / "x"
        )
    with torch.no_grad():
        net.backbone[2].weight[0, 0] += 1
    with pytest.raises(InvalidInput, match="other weights"):
        write_proof(net, artefacts.inputs, certificates, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_checker_runs_without_torch_and_without_the_rest(tmp_path):
    artefacts = made(tmp_path, lambda eps: Local(eps=eps))
    code = (
        "import sys, relaxcert.checker as c\n"
        f"found = c.check({str(artefacts.certificate)!r}, model={str(artefacts.model)!r}, "
        f"data={str(artefacts.data)!r})\n"
        "print(found.certified)\n"
        "print(*(n for n in sys.modules if n.startswith('relaxcert.') or n == 'torch'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, modules = done.stdout.splitlines()
    assert int(count) == int(artefacts.certificates.certified.sum())
    assert all(name.startswith("relaxcert.checker") for name in modules.split())
