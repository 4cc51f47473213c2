"""``relaxcert data``: from a network file or from nothing to samples that train and certify."""

from __future__ import annotations

import json
import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from relaxcert.cli import main
from relaxcert.data.files import read_points
from relaxcert.interop import read_nnet
from tests.networks import randn

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "acasxu"


def write_nnet(path: Path, inputs: int = 5) -> Path:
    """A small network in .nnet format with the region and normalisation of ACAS Xu."""
    sizes = (inputs, 12, 5)

    def line(numbers: object) -> str:
        return ",".join(f"{float(number):.10g}" for number in numbers) + ","

    lines = ["// made by a test", f"2,{inputs},5,12,", ",".join(map(str, sizes)) + ",", "0,"]
    lines += [
        line([0, -3.141593, -3.141593, 100, 0][:inputs]),
        line([60760, 3.141593, 3.141593, 1200, 1200][:inputs]),
        line([19791.091, 0, 0, 650, 600, 7.5][5 - inputs :]),
        line([60261, 6.28318530718, 6.28318530718, 1100, 1200, 373.9][5 - inputs :]),
    ]
    for place, (before, after) in enumerate(pairwise(sizes)):
        lines += [line(row) for row in randn(place, after, before).tolist()]
        biases = randn(place + 10, after) / 4 if place == 0 else torch.zeros(after)
        lines += [line([bias]) for bias in biases.tolist()]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command line in this process, as the script would, with a cache of its own."""
    monkeypatch.setenv("RELAXCERT_CACHE", str(tmp_path / "cache"))

    def run(*arguments: object, status: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["relaxcert", *map(str, arguments)])
        with monkeypatch.context() as patch:
            patch.setattr("warnings.showwarning", None)  # main() replaces it; put it back after
            found = 0
            try:
                main()
            except SystemExit as exit_:
                found = exit_.code or 0
        captured = capsys.readouterr()
        assert found == status, captured.err
        return captured.out, captured.err

    return run


def test_from_nothing_to_certificates(run, tmp_path):
    """hcas writes a folder; train takes it and reports on its tests; certify reads its files."""
    folder, runs = tmp_path / "hcas", tmp_path / "runs"
    sizes = ("--train", 500, "--validation", 50, "--test", 200)
    made, _ = run("data", "hcas", "--speeds", 1, "--angles", 13, *sizes, "--out", folder, "--json")
    summary = json.loads(made)
    assert summary["counts"]["train"] == [100] * 5
    assert sum(summary["counts"]["uniform"]) == 200
    assert 0 < summary["closest_pair_in_test"] < 1
    assert sorted(file.name for file in folder.iterdir()) == [
        "test.npz",
        "train.npz",
        "uniform.npz",
        "validation.npz",
    ]
    options = ("--epochs", 2, "--validation", folder / "validation.npz", "--out", runs)
    trained, err = run("train", "--recipe", "acasxu-fast", "--data", folder, *options)
    assert err == ""
    for text in ("constant answer, one class", "uniform, by class", "strong left", "0.200"):
        assert text in trained
    model = runs / "acasxu-fast.safetensors"
    certified, _ = run("certify", model, "--data", folder / "test.npz", "--json")
    figures = json.loads(certified)
    assert figures["points"] == 200
    assert figures["class_names"][3] == "strong left"
    # The table printed after training says the same as certify.
    assert f"{figures['figures']['vra']:.3f}" in trained


def test_a_network_labels_a_balanced_sample(run, tmp_path):
    network = write_nnet(tmp_path / "small.nnet")
    sizes = ("--train", 50, "--validation", 10, "--test", 20)
    out, _ = run("data", "acasxu", network, *sizes, "--out", tmp_path / "out")
    assert "largest share" in out
    inputs, labels = read_points(tmp_path / "out" / "train.npz", features=5, num_classes=5)
    assert labels.bincount().tolist() == [10] * 5
    with torch.no_grad():
        assert torch.equal(read_nnet(network).network(inputs.double()).argmax(1), labels)


def test_an_onnx_network_labels_as_its_nnet_twin_does(run, tmp_path):
    """In the shape of the public files: [1, 1, 1, 5], flattened, MatMul, Add, Relu."""
    network = write_nnet(tmp_path / "small.nnet")
    first, _, last = read_nnet(network, best="max").network
    initial, nodes = [], [helper.make_node("Flatten", ["x"], ["h0"])]
    for place, layer in enumerate((first, last)):
        initial += [
            numpy_helper.from_array(layer.weight.detach().numpy().T.copy(), f"w{place}"),
            numpy_helper.from_array(layer.bias.detach().numpy().copy(), f"b{place}"),
        ]
        nodes.append(helper.make_node("MatMul", [f"h{place}", f"w{place}"], [f"m{place}"]))
        nodes.append(helper.make_node("Add", [f"m{place}", f"b{place}"], [f"a{place}"]))
        nodes.append(helper.make_node("Relu", [f"a{place}"], [f"h{place + 1}"]))
    graph = helper.make_graph(
        nodes[:-1],
        "acasxu",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [1, 1, 1, 5])],
        [helper.make_tensor_value_info("a1", TensorProto.DOUBLE, [1, 5])],
        initial,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "small.onnx").write_bytes(model.SerializeToString())
    sizes = ("--train", 50, "--validation", 10, "--test", 20)
    for kind in ("nnet", "onnx"):
        run("data", "acasxu", tmp_path / f"small.{kind}", *sizes, "--out", tmp_path / kind)
    for part in ("train", "uniform"):
        left, right = (read_points(tmp_path / kind / f"{part}.npz") for kind in ("nnet", "onnx"))
        assert torch.equal(left[0], right[0])
        assert torch.equal(left[1], right[1])
    np.save(tmp_path / "one.npy", np.array([[19791.091, 0.0, 0.0, 650.0, 600.0]]))
    options = ("--points", tmp_path / "one.npy", "--out", tmp_path)
    run("data", "acasxu", tmp_path / "small.onnx", *options)
    assert read_points(tmp_path / "points.npz")[0].abs().max() < 1e-12


def test_given_encounters_are_normalised_and_labelled(run, tmp_path):
    network = write_nnet(tmp_path / "small.nnet")
    encounters = tmp_path / "encounters.csv"
    encounters.write_text("rho,theta,psi,v_own,v_int\n19791.091,0,0,650,600\n500,1,-3,200,300\n")
    _, err = run("data", "acasxu", network, "--points", encounters, "--out", tmp_path)
    assert err == ""
    inputs, labels = read_points(tmp_path / "points.npz")
    assert inputs[0].abs().max() < 1e-12
    assert float(inputs[1, 2]) == pytest.approx(-3 / (2 * math.pi))
    assert labels is not None


@pytest.mark.filterwarnings("default::relaxcert.errors.OutOfRangeWarning")
def test_angles_in_degrees_are_warned_of(run, tmp_path):
    network = write_nnet(tmp_path / "small.nnet")
    np.save(tmp_path / "degrees.npy", np.array([[500.0, 45.0, -90.0, 200.0, 200.0]]))
    _, err = run("data", "acasxu", network, "--points", tmp_path / "degrees.npy", "--out", tmp_path)
    assert "warning: input 1 of point 0 is 45" in err
    assert "radians" in err


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: path.write_text(path.read_text()[:300]), "the file ends here"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: write_nnet(path, inputs=4), r"(batch, 5)"),
    ],
)
def test_a_network_that_cannot_be_used_is_one_paragraph_and_no_file(
    run, tmp_path, break_it, message
):
    network = write_nnet(tmp_path / "small.nnet")
    break_it(network)
    _, err = run("data", "acasxu", network, "--out", tmp_path / "out", status=2)
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_part_that_does_not_exist_is_named(run, tmp_path):
    _, err = run("train", "--recipe", "acasxu-fast", "--data", "hcas:tset", status=2)
    assert "hcas:tset is not a part" in err


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public networks are not here")
def test_the_public_network_gives_the_known_shares(tmp_path):
    from relaxcert.data.acasxu import acasxu

    network = read_nnet(SHARED / "ACASXU_run2a_1_1_batch_2000.nnet").network
    parts = acasxu(network, identity="1_1", sizes=(50, 50, 20_000), folder=tmp_path)
    shares = parts["uniform"].labels.bincount(minlength=5) / 20_000
    expected = torch.tensor([0.855, 0.030, 0.035, 0.043, 0.037])
    assert float((shares - expected).abs().max()) < 0.01
