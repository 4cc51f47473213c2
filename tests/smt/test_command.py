"""``relaxcert crosscheck`` end to end: exit statuses, files, witness and replay."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from relaxcert.cli import main
from relaxcert.errors import DataError
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.smt.witness import load_witness
from relaxcert.spec import Local
from tests.smt.networks import affine
from tests.smt.test_crosscheck import with_eps_scaled


@pytest.fixture
def model(tmp_path):
    # f = (x, -x): the prediction flips at 0, so x is certified at eps 1 iff |x| > 1.
    net = GloRoNet(affine([[1.0], [-1.0]], [0.0, 0.0]), Local(eps=1))
    np.savez(tmp_path / "points.npz", x=np.array([[2.0], [0.95], [-3.0], [0.5]], np.float32))
    return save_model(net.float(), tmp_path / "net.safetensors")


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["relaxcert", *map(str, arguments)])
        with monkeypatch.context() as patch:
            patch.setattr("warnings.showwarning", None)
            try:
                main()
                status = 0
            except SystemExit as exit_:
                status = exit_.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_honest_certificates_are_confirmed_and_results_written(run, model, tmp_path):
    arguments = ("crosscheck", model, "--data", tmp_path / "points.npz", "--out", tmp_path / "out")
    status, out, err = run(*arguments, "--budget", "5s", "--json")
    assert (status, err) == (0, "")
    summary = json.loads(out)
    assert summary["both_certify"] == 2
    assert summary["rejected_and_fails"] == 2
    assert json.loads((tmp_path / "out" / "crosscheck.json").read_text()) == summary
    assert len((tmp_path / "out" / "crosscheck.jsonl").read_text().splitlines()) == 5
    status, out, _ = run(*arguments, "--budget", "5s")  # resumed: nothing left to do
    assert status == 0
    assert "certified by head and solver" in out


def test_a_falsified_certificate_is_status_3_with_a_witness_that_replays(
    run, model, tmp_path, monkeypatch
):
    with_eps_scaled(monkeypatch, 0.9)
    arguments = ("crosscheck", model, "--data", tmp_path / "points.npz", "--out", tmp_path / "out")
    status, out, err = run(*arguments)
    assert status == 3
    assert "unsound: 1 certified points are falsified" in err
    path = tmp_path / "out" / "witness-1.npz"
    assert f"--replay {path}" in out
    witness = load_witness(path)
    assert witness.point[0] - witness.witnesses[0][0] <= 1
    with np.load(path) as arrays:
        assert arrays["witnesses"][0] == pytest.approx([float(witness.witnesses[0][0])])
    status, out, err = run("crosscheck", model, "--replay", path, "--json")
    assert status == 3
    assert json.loads(out)["confirmed"]
    assert "in exact arithmetic" in err


def test_a_witness_for_an_image_replays(run, tmp_path, monkeypatch):
    """A convolution takes the point in its own shape."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    model = tmp_path / "images.safetensors"
    save_model(GloRoNet(backbone, Local(eps=1)), model)
    np.savez(tmp_path / "images.npz", x=torch.randn(4, 1, 3, 3).numpy())
    with_eps_scaled(monkeypatch, 1e-3)
    where = ("--data", tmp_path / "images.npz", "--out", tmp_path / "out")
    status, _, err = run("crosscheck", model, *where)
    assert status == 3, err
    path = next((tmp_path / "out").glob("witness-*.npz"))
    status, out, err = run("crosscheck", model, "--replay", path, "--json")
    assert (status, json.loads(out)["confirmed"]) == (3, True), err
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, "shape": np.array([1, 3, 4])})
    status, _, err = run("crosscheck", model, "--replay", path)
    assert status == 2
    assert "does not fit the 9 numbers" in err


def test_bad_input_is_status_2(run, model, tmp_path):
    data = ("--data", tmp_path / "points.npz")
    for arguments, message in [
        (("--budget", "0s", *data), "greater than 0"),
        (("--solver", "nobody", *data), "is unknown, expected one of"),
        ((), "--data is missing"),
        (("--property", "landsat/soils", *data), "classes"),
        (("--replay", tmp_path / "nothing.npz"), "no such file"),
        (("--scheduler", "nonsense://x", *data), "does not answer"),
    ]:
        status, _, err = run("crosscheck", model, *arguments)
        assert status == 2, (arguments, err)
        assert message in err, (arguments, err)


def test_a_witness_of_other_weights_or_a_damaged_file_is_refused(run, model, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        with_eps_scaled(patch, 0.9)
        run("crosscheck", model, "--data", tmp_path / "points.npz", "--out", tmp_path / "out")
    path = tmp_path / "out" / "witness-1.npz"
    other = GloRoNet(affine([[1.0], [-2.0]], [0.0, 0.0]), Local(eps=1)).float()
    save_model(other, tmp_path / "other.safetensors")
    status, _, err = run("crosscheck", tmp_path / "other.safetensors", "--replay", path)
    assert status == 2
    assert "other weights" in err
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read as a witness"):
        load_witness(path)


def test_the_network_is_judged_in_real_numbers(run, model, tmp_path):
    """A witness may lie where no float does; what is reported is exact."""
    np.savez(tmp_path / "tie.npz", x=np.array([[1.0]], np.float32))
    status, out, _ = run("crosscheck", model, "--data", tmp_path / "tie.npz", "--json")
    assert status == 0
    assert json.loads(out)["rejected_and_fails"] == 1  # x' = 0 ties, on the sphere itself
    assert torch.get_default_dtype() == torch.float32


def test_several_properties_have_a_summary_each(run, model, tmp_path, monkeypatch):
    for name, eps in (("one", "1"), ("half", "1/2")):
        (tmp_path / f"{name}.toml").write_text(
            f'relaxcert = 1\nname = "own/{name}"\ntitle = "t"\nsource = "a test"\n'
            f'num_classes = 2\n[property]\nkind = "top-k"\nk = 1\neps = "{eps}"\n'
        )
    props = [o for n in ("one", "half") for o in ("--property", tmp_path / f"{n}.toml")]
    data = ("--data", tmp_path / "points.npz", "--out", tmp_path / "out")
    status, out, _ = run("crosscheck", model, *data, *props, "--json")
    assert status == 0
    shown = json.loads(out)["properties"]
    assert [one["both_certify"] for one in shown] == [2, 3]
    assert [one["rejected_and_fails"] for one in shown] == [2, 1]
    assert len((tmp_path / "out" / "crosscheck.jsonl").read_text().splitlines()) == 1 + 8
    with_eps_scaled(monkeypatch, 0.9)
    again = ("--data", tmp_path / "points.npz", "--out", tmp_path / "other")
    assert run("crosscheck", model, *again, *props)[0] == 3
    # -3 and 2 are sound in both; 0.95 is not at eps 1, nor is 0.5 at eps 1/2.
    found = sorted(path.name for path in (tmp_path / "other").glob("witness*"))
    assert found == ["witness-1-0.npz", "witness-3-1.npz"]


def test_exact_radii_report_and_figure(run, model, tmp_path):
    data = ("--data", tmp_path / "points.npz", "--radii", "--constants", "2")
    where = ("--out", tmp_path / "out", "--plot", tmp_path / "radii.png")
    status, out, err = run("crosscheck", model, *data, *where, "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert report == json.loads((tmp_path / "out" / "exactness.json").read_text())
    # |x| is the exact radius, and the bound of a linear network is exact.
    assert [one["certified"] for one in report["radii"]] == pytest.approx([2, 0.95, 3, 0.5])
    for one in report["radii"]:
        assert one["certified"] <= one["exact"]["refuted"] <= one["certified"] * 1.002
    assert report["unsound"] == 0
    assert report["certified_over_exact"]["median"] == pytest.approx(1, abs=2e-3)
    assert report["bound_over_local_constant"]["smallest"] == pytest.approx(1)
    assert report["bound_over_local_constant"]["too_small"] == 0
    assert (tmp_path / "radii.png").read_bytes().startswith(b"\x89PNG")
    status, out, _ = run("crosscheck", model, *data)
    assert status == 0
    assert "certified/exact: median" in out


def test_certified_radii_beyond_the_exact_ones_are_status_3(run, model, tmp_path, monkeypatch):
    true_certify = GloRoNet.certify

    def certify(self, inputs, **rest):
        found = true_certify(self, inputs, **rest)
        return replace(found, radius=found.radius * 1.01)

    monkeypatch.setattr(GloRoNet, "certify", certify)
    status, _, err = run("crosscheck", model, "--data", tmp_path / "points.npz", "--radii")
    assert status == 3
    assert "4 certified radii or bounds are contradicted" in err


def test_options_of_radii_are_checked(run, model, tmp_path):
    data = ("--data", tmp_path / "points.npz")
    for arguments, message in [
        (("--plot", "x.png"), "belong to --radii"),
        (("--radii", "--at-radius"), "--radii goes with one --property"),
        (("--radii", "--tolerance", "0"), "tolerance=0"),
        (("--radii", "--budget", "0s"), "greater than 0"),
    ]:
        status, _, err = run("crosscheck", model, *data, *arguments)
        assert status == 2, (arguments, err)
        assert message in err, (arguments, err)


def test_documents_for_another_number_of_classes_are_refused(run, model, tmp_path):
    """Local fits any number of classes, but its document says for how many it was meant."""
    document = tmp_path / "five.toml"
    document.write_text(
        'relaxcert = 1\nname = "own/five"\ntitle = "t"\nsource = "a test"\n'
        'num_classes = 5\n[property]\nkind = "local"\neps = "1"\n'
    )
    data = ("--data", tmp_path / "points.npz", "--property", document)
    for command in ("crosscheck", "certify"):
        status, _, err = run(command, model, *data)
        assert status == 2
        assert "stated for 5 classes, but the network has 2" in err
