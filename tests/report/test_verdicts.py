"""Verdict files: strict JSON, a line a point, and a summary that says what was proved."""

from __future__ import annotations

import json
import math
import platform

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import relaxcert
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.report.verdicts import (
    POINTS,
    SUMMARY,
    point_lines,
    summary_of,
    to_json,
    write_verdicts,
)
from relaxcert.spec import Local, RelaxedTopK, canonical_json, digest
from relaxcert.training import evaluate
from tests.networks import linear, randn, random_backbone

NAN, INF = math.nan, math.inf
ROWS = torch.tensor(
    [[3.0, 2.0, 1.0, 0.0], [3.0, 2.9, 1.0, 0.0], [3.0, 2.9, 2.8, 2.7], [NAN, 0.0, 0.0, 0.0]],
    dtype=torch.float64,
)
LABELS = torch.tensor([0, 1, 2, 3])


def network(prop=None) -> GloRoNet:
    chosen = RelaxedTopK(2, eps="0.1") if prop is None else prop
    return GloRoNet(nn.Sequential(linear(torch.eye(4))), chosen).eval()


def strict(text: str) -> object:
    """Parse as a reader would that knows JSON only."""

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)


@given(plain)
def test_json_is_strict_and_keeps_everything_but_what_json_lacks(value):
    def expected(value):
        if isinstance(value, float) and not math.isfinite(value):
            return {INF: "inf", -INF: "-inf"}.get(value, "nan")
        if isinstance(value, dict):
            return {key: expected(item) for key, item in value.items()}
        return [expected(item) for item in value] if isinstance(value, list) else value

    for indent in (None, 2):
        assert strict(to_json(value, indent=indent)) == expected(value)


def test_json_of_tuples_keys_and_other_scripts():
    assert to_json({1: (INF, -INF, NAN)}) == '{"1": ["inf", "-inf", "nan"]}'
    assert to_json("Grünland") == '"Grünland"'
    with pytest.raises(TypeError):
        to_json(object())


def test_each_point_has_one_line_that_says_what_was_proved_of_it():
    certificates = network().certify(ROWS)
    lines = list(point_lines(certificates, LABELS))
    assert all("\n" not in line for line in lines)
    records = [strict(line) for line in lines]
    assert [record["index"] for record in records] == [0, 1, 2, 3]
    assert [record["label"] for record in records] == [0, 1, 2, 3]
    assert [record["certified"] for record in records] == [True, True, False, False]
    assert [record["set"] for record in records] == [[0, 1], [0, 1], [], []]
    assert [record["k"] for record in records] == [2, 2, 0, 0]
    assert [record["strictest_k"] for record in records] == [1, 2, 0, 0]
    assert [record["prediction"] for record in records[:3]] == [0, 0, 0]
    assert records[3]["margin"] == "nan"
    assert records[0]["reason"] == ""
    assert "not positive" in records[2]["reason"]
    assert "not finite" in records[3]["reason"]
    assert records[0]["radius"] == pytest.approx(1 / math.sqrt(2), rel=1e-9)


def test_without_labels_there_is_no_label():
    assert all("label" not in strict(line) for line in point_lines(network().certify(ROWS), None))


def test_the_summary_holds_property_weights_level_figures_bounds_and_versions():
    net = network()
    figures, certificates = evaluate(net, ROWS, LABELS)
    summary = summary_of(
        certificates,
        figures,
        bounds=net.lipschitz.table(),
        class_names=list("abcd"),
        data="mine.npz",
    )
    read = strict(to_json(summary))
    assert read["property"] == json.loads(canonical_json(net.prop))
    assert read["digest"] == digest(net.prop) == certificates.digest
    assert read["weights_sha256"] == net.verify().fingerprint
    assert len(read["weights_sha256"]) == 64
    assert read["level"] == "R"
    assert (read["points"], read["certified"]) == (4, 2)
    assert read["rejection_rate"] == 0.5
    assert read["figures"] == figures.as_dict()
    assert read["clean_accuracy_is"] == "top-2 accuracy"
    assert read["certified_by_k"] == {"2": 2}
    assert read["class_names"] == ["a", "b", "c", "d"]
    assert read["data"] == "mine.npz"
    (bound,) = read["bounds"]
    assert (bound["path"], bound["kind"], bound["norm"]) == ("0", "Linear", "l2")
    assert 1.0 <= bound["bound"] < 1.0 + 1e-6
    assert read["versions"] == {
        "relaxcert": relaxcert.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def test_a_summary_without_points_labels_or_names_is_json_too():
    net = network()
    empty = net.certify(ROWS[:0])
    read = strict(to_json(summary_of(empty, None, bounds=(), class_names=None)))
    assert (read["points"], read["certified"], read["rejection_rate"]) == (0, 0, "nan")
    assert read["figures"] is None
    assert read["class_names"] is None


def test_both_files_are_written_and_agree(tmp_path):
    net = GloRoNet(random_backbone(2), Local(eps=0.2) | RelaxedTopK(2, eps=0.1)).eval()
    inputs = randn(5, 30, 4)
    certificates = net.certify(inputs)
    summary = summary_of(certificates, None, bounds=net.lipschitz.table(), class_names=None)
    write_verdicts(tmp_path / "new" / "folder", certificates, None, summary)
    lines = (tmp_path / "new" / "folder" / POINTS).read_text("utf-8").splitlines()
    records = [strict(line) for line in lines]
    read = strict((tmp_path / "new" / "folder" / SUMMARY).read_text("utf-8"))
    assert len(records) == read["points"] == 30
    assert sum(record["certified"] for record in records) == read["certified"]
    by_k: dict[str, int] = {}
    for record in records:
        if record["certified"]:
            by_k[str(record["k"])] = by_k.get(str(record["k"]), 0) + 1
    assert by_k == read["certified_by_k"]
