"""relaxcert certify --proof and relaxcert check: from end to end, with each exit status."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from relaxcert.cli import main
from relaxcert.heads import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.spec import Local, RelaxedTopK
from tests.networks import random_backbone
from tests.proofs.made import made, sealed


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process: exit status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["relaxcert", *map(str, arguments)])
        with monkeypatch.context() as patch:
            patch.setattr("warnings.showwarning", None)  # main() replaces it; put it back after
            try:
                main()
                status = 0
            except SystemExit as exit_:
                status = int(exit_.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_certify_then_check(run, tmp_path):
    """With a scale, on a file of bytes: divided alike on both sides."""
    artefacts = made(tmp_path, lambda eps: RelaxedTopK(2, eps=eps), eps="1/50")
    bytes_ = np.random.default_rng(0).integers(0, 256, (40, 4)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=bytes_, y=np.zeros(40, dtype=int))
    proof = tmp_path / "out.cert"
    where = ("--data", tmp_path / "x.npz", "--scale", 255)
    status, _, error = run("certify", artefacts.model, *where, "--proof", proof, "--json")
    assert (status, error) == (0, "")
    status, out, error = run("check", proof, "--model", artefacts.model, *where)
    assert (status, error) == (0, "")
    assert "of 40 points are proved" in out
    status, out, _ = run("check", proof, "--model", artefacts.model, *where, "--json")
    accepted = json.loads(out)
    assert accepted["accepted"] is True
    assert 0 < accepted["certified"] < 40
    status, _, error = run("check", proof, "--model", artefacts.model, *where[:2], "--scale", 256)
    assert status == 3
    assert "rejected: point 0: input" in error or "rejected: point" in error


def test_landsat_by_name(run, tmp_path):
    net = GloRoNet(random_backbone(3, 36, (8,), 6), Local(eps="1/100")).eval()
    model, proof = save_model(net, tmp_path / "m.safetensors"), tmp_path / "p.cert"
    assert run("certify", model, "--data", "landsat:test", "--proof", proof)[0] == 0
    status, out, _ = run("check", proof, "--model", model, "--data", "landsat:test")
    assert status == 0
    assert "of 2000 points" in out
    assert run("check", proof, "--model", model, "--data", "landsat:train")[0] == 3


def test_a_false_claim_is_exit_status_3_with_the_step_and_the_point(run, tmp_path):
    artefacts = made(tmp_path, lambda eps: Local(eps=eps))
    lines = artefacts.lines()
    place = next(i for i, line in enumerate(lines) if line["kind"] == "point")
    lines[place]["margin"] *= 2
    changed, index = sealed(lines, tmp_path / "changed"), lines[place]["index"]
    where = ("--model", artefacts.model, "--data", artefacts.data)
    status, out, error = run("check", changed, *where)
    assert (status, out) == (3, "")
    assert error.startswith(f"rejected: point {index}: margin: ")
    status, out, _ = run("check", changed, *where, "--json")
    assert status == 3
    assert json.loads(out) | {"reason": ""} == {
        "accepted": False,
        "step": "margin",
        "point": index,
        "reason": "",
    }


def test_what_cannot_be_read_is_exit_status_2_and_one_paragraph(run, tmp_path):
    artefacts = made(tmp_path, lambda eps: Local(eps=eps))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 3)
    where = ("--model", artefacts.model, "--data", artefacts.data)
    for bad in (
        ("check", tmp_path / "none", *where),
        ("check", tmp_path / "empty", *where),
        ("check", tmp_path / "binary", *where),
        ("check", artefacts.certificate, "--model", artefacts.data, *where[2:]),
        ("check", artefacts.certificate, *where[:2], "--data", artefacts.model),
        ("check", artefacts.certificate, *where, "--scale", "inf"),
        ("certify", artefacts.model, *where[2:], "--proof", "x", "--deployed", "float32"),
    ):
        status, out, error = run(*bad)
        assert (status, out) == (2, ""), bad
        assert error.startswith("error: ")
        assert "Traceback" not in error
