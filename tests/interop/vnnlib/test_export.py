"""Exported folders: the tree of files decides the property just as the reference does."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.errors import DocumentError, InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.interop.vnnlib import export as exports
from relaxcert.interop.vnnlib import export_vnnlib, judge, parse_vnnlib, read_manifest
from relaxcert.interop.vnnlib.manifest import AllNode, AnyNode, FileNode, Manifest, Node, files_of
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, Targeted, TopK
from relaxcert.spec.reference import holds
from relaxcert.spec.verdict import Answer
from relaxcert.spec.violation import AnyPart
from tests.attacks.test_margin_pgd import exact, exact_forward
from tests.interop.vnnlib.evaluate import Parsed2
from tests.networks import NORMS, directions, every_kind, linear, randn, random_backbone


def answers_of(folder, node: Node, version: str, samples) -> dict[str, bool]:
    """UNSAT for each file, as far as these (inputs, outputs) of each ball, by eps, show."""
    found: dict[str, bool] = {}
    for file in files_of(node):
        text = (folder / file.file).read_text()
        asked = parse_vnnlib(text).answered_by if version == "1.0" else Parsed2(text).holds
        found[file.file] = not any(asked(x, y) for x, y in samples[Fraction(file.eps)])
    return found


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("version", "places"), [("1.0", range(11)), ("2.0", [4, 7, 9, 10])])
def test_files_decide_every_kind_as_the_reference_does(tmp_path, norm, version, places):
    """Both are asked about the same points of each ball."""
    points, seen = randn(5, 8, 3), set()
    backbone = random_backbone(2, 3, (4,), 4)
    rays = directions(norm, 3, 1)[::4]
    for place in places:
        prop = every_kind(4, eps=Fraction(2, 5), norm=norm)[place]
        folder = tmp_path / str(place)
        manifest = export_vnnlib(GloRoNet(backbone, prop), points, folder, version=version)
        assert read_manifest(folder) == manifest
        for row, entry in enumerate(manifest.points):
            samples = {}
            for eps in {ball.eps for ball in prop.balls}:
                inputs = [exact(points[row] + 0.9999 * float(eps) * ray) for ray in rays]
                samples[eps] = [(x, exact_forward(backbone, x)) for x in inputs]
            centre = exact_forward(backbone, exact(points[row]))
            expected = holds(prop, centre, lambda ball, s=samples: [y for _, y in s[ball.eps]])
            answers = answers_of(folder, entry.robust, version, samples)
            found = judge(as_if_exact(entry.robust), answers)
            assert found is (Answer.CERTIFIED if expected else Answer.FALSIFIED)
            seen.add(expected)
    assert seen == {True, False}


def as_if_exact(node: Node) -> Node:
    """The samples lie in the ball itself, so a SAT of the box around it counts."""
    if isinstance(node, FileNode):
        return node.model_copy(update={"inputs": "ball"})
    if isinstance(node, AnyNode):
        return AnyNode(any=tuple(map(as_if_exact, node.any)))
    return AllNode(all=tuple(map(as_if_exact, node.all)))


def three() -> nn.Sequential:
    return nn.Sequential(linear(torch.eye(3)))


POINT = torch.tensor([[0.9, 0.5, 0.0]], dtype=torch.float64)


def test_the_manifest_says_what_was_exported(tmp_path):
    prop = RelaxedTopK(2, eps="0.03") & Local(eps="0.01", norm="linf")
    net = GloRoNet(three(), prop)
    names = ("cat", "dog; (assert", "bird\nnest")
    manifest = export_vnnlib(net, POINT, tmp_path, class_names=names)
    raw = json.loads((tmp_path / "manifest.json").read_text())
    assert raw["digest"] == net.digest == manifest.digest
    assert raw["weights_sha256"] == net.verify().fingerprint
    assert raw["points"][0]["order"] == [0, 1, 2]
    tree = raw["points"][0]["robust"]
    uniform, local = tree["all"]
    assert [file["ks"] for file in uniform["any"]] == [[1], [2]]
    assert {file["inputs"] for file in uniform["any"]} == {"box around the ball"}
    assert local["any"][0]["inputs"] == "ball"
    assert local["any"][0]["eps"] == "0.01"
    files = files_of(manifest.points[0].robust)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["manifest.json", *(file.file for file in files)]
    )
    header = (tmp_path / files[0].file).read_text()
    for part in (net.digest, "ball: l2, eps 0.03", "prefix lengths k: 1", "cat, dog; (assert"):
        assert part in header
    parse_vnnlib(header)


def test_sat_of_a_box_around_a_ball_proves_nothing(tmp_path):
    for norm, expected in (("l2", Answer.UNKNOWN), ("linf", Answer.FALSIFIED)):
        manifest = export_vnnlib(GloRoNet(three(), Local(eps=0.1, norm=norm)), POINT, tmp_path)
        (entry,) = manifest.points
        (file,) = files_of(entry.robust)
        assert judge(entry.robust, {file.file: False}) is expected
        assert judge(entry.robust, {file.file: True}) is Answer.CERTIFIED
        assert judge(entry.robust, {}) is Answer.UNKNOWN


def test_judging_trees():
    def file(name: str) -> FileNode:
        return FileNode(file=name, ks=(1,), eps="1", norm="linf", inputs="ball", conjunctions=1)

    a, b = file("a"), file("b")
    for node, found, expected in [
        (AnyNode(any=()), {}, Answer.FALSIFIED),
        (AllNode(all=()), {}, Answer.CERTIFIED),
        (AnyNode(any=(a, b)), {"a": False, "b": True}, Answer.CERTIFIED),
        (AnyNode(any=(a, b)), {"a": False}, Answer.UNKNOWN),
        (AnyNode(any=(a, b)), {"a": False, "b": False}, Answer.FALSIFIED),
        (AllNode(all=(a, b)), {"a": False}, Answer.FALSIFIED),
        (AllNode(all=(a, b)), {"a": True, "b": None}, Answer.UNKNOWN),
        (AllNode(all=(a, AnyNode(any=(b,)))), {"a": True, "b": True}, Answer.CERTIFIED),
    ]:
        assert judge(node, found) is expected


def test_points_whose_ranking_rounding_may_have_confused_are_skipped(tmp_path):
    """Only the sets that the property speaks of need to be certain."""
    points = torch.tensor([[1.0, 0.5, 0.5], [0.5, 0.5, 0.1]], dtype=torch.float64)
    manifest = export_vnnlib(GloRoNet(three(), Local(eps=0.1)), points, tmp_path)
    assert [entry.robust is None for entry in manifest.points] == [False, True]
    assert "so close that float64 does not tell" in manifest.points[1].skipped
    manifest = export_vnnlib(GloRoNet(three(), TopK(2, eps=0.1)), points, tmp_path)
    assert [entry.robust is None for entry in manifest.points] == [True, False]
    targeted = Targeted([[0, 1], [1, 0], [2, 0]], eps=0.1)
    both = GloRoNet(three(), targeted & TopK(2, eps=0.1))
    assert [e.robust is None for e in export_vnnlib(both, points, tmp_path).points] == [True, True]


def test_a_point_that_no_set_admits_is_broken_by_itself(tmp_path):
    with pytest.warns(UserWarning, match="no affinity set"):
        net = GloRoNet(three(), Affinity(AffinitySets([[1, 2]], 3), eps=0.1))
    (entry,) = export_vnnlib(net, POINT, tmp_path).points
    assert entry.robust == AnyNode(any=())
    assert judge(entry.robust, {}) is Answer.FALSIFIED


def test_a_tree_with_any_and_all_confused_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "EveryPart", AnyPart)
    with pytest.raises(AssertionError, match=r"is .*Answer\."):
        test_files_decide_every_kind_as_the_reference_does(tmp_path, "linf", "1.0", [9])


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.zeros(0, 3), "at least one"),
        (torch.zeros(3), "expected .points, ...."),
        (torch.full((1, 3), torch.nan), "NaN or infinity"),
    ],
)
def test_points_that_do_not_fit_are_refused(tmp_path, points, message):
    with pytest.raises(InvalidInput, match=message):
        export_vnnlib(GloRoNet(three(), Local(eps=0.1)), points, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "at version"),
        ({"format": "other"}, "at format"),
        ({"surprise": 1}, "at surprise"),
        ({"points": [{"index": 0, "robust": {"file": "../outside", "ks": []}}]}, "at points"),
    ],
)
def test_a_manifest_from_elsewhere_is_checked(tmp_path, change, message):
    manifest = export_vnnlib(GloRoNet(three(), Local(eps=0.1)), POINT, tmp_path)
    assert isinstance(read_manifest(tmp_path / "manifest.json"), Manifest)
    raw = json.loads(manifest.to_json()) | change
    (tmp_path / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(DocumentError, match=f"not a manifest of relaxcert export.*{message}"):
        read_manifest(tmp_path)


def test_a_manifest_nested_without_end_is_refused(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text('{"any": [' * 100_000)
    with pytest.raises(DocumentError, match="not a manifest"):
        read_manifest(path)
