"""Verdict files are read back as they were written, and refused where they contradict."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

from relaxcert.errors import DataError
from relaxcert.metrics import certified_and_correct, label_radius
from relaxcert.report.judged import read_attack, read_crosscheck
from relaxcert.report.run import find_runs, read_run
from relaxcert.report.verdicts import POINTS, SUMMARY
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK
from tests.networks import every_kind
from tests.report.synthetic import prototypes, write_run

NAMES = ["a", "b", "c", "d", "e", "f"]
RT3 = RelaxedTopK(3, eps="0.2")


@pytest.fixture
def folder(tmp_path):
    inputs, labels = prototypes(6, 60)
    labels[::5] = 5  # some are wrong
    write_run(tmp_path / "run", RT3, inputs, labels, NAMES)
    return tmp_path / "run"


@pytest.mark.parametrize("number", range(len(every_kind(6))))
def test_what_is_read_is_what_was_certified(tmp_path, number):
    prop = every_kind(6, "1/10")[number]
    inputs, labels = prototypes(6, 60)
    inputs[7, 2] = float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = write_run(tmp_path, prop, inputs, labels, NAMES)
        found = net.certify(inputs)
    run = read_run(tmp_path)
    for name in ("certified", "prediction", "k", "strictest_k", "sets", "strictest_sets"):
        assert torch.equal(getattr(run, name), getattr(found, name)), name
    for name in ("margin", "radius"):
        read, written = getattr(run, name), getattr(found, name)
        assert torch.equal(read.nan_to_num(nan=-9.0), written.nan_to_num(nan=-9.0)), name
    assert torch.equal(run.labels, labels)
    assert torch.equal(run.correct, certified_and_correct(found, labels))
    assert torch.equal(run.label_radius, label_radius(found, labels))
    assert run.label_ranks[7] == 0
    assert run.class_names == tuple(NAMES)


def without(folder, names: set[str], fields: set[str]):
    """The same folder as an earlier version wrote it."""
    summary = json.loads((folder / SUMMARY).read_text())
    kept = {key: value for key, value in summary.items() if key not in names}
    (folder / SUMMARY).write_text(json.dumps(kept))
    lines = [json.loads(line) for line in (folder / POINTS).read_text().splitlines()]
    plain = [{k: v for k, v in line.items() if k not in fields} for line in lines]
    (folder / POINTS).write_text("".join(json.dumps(line) + "\n" for line in plain))


EARLIER = (
    {"by_class", "constant_answers", "num_classes", "command", "written", "input_shape",
     "data_sha256", "model_sha256", "notes", "computed_on"},
    {"strictest_set", "label_rank", "counts", "label_radius"},
)  # fmt: skip


def test_files_of_earlier_versions_are_read(folder):
    before = read_run(folder)
    without(folder, *EARLIER)
    run = read_run(folder)
    assert torch.equal(run.correct, before.correct)
    assert run.label_radius is None
    assert run.summary.by_class is None


def test_for_local_the_radius_of_the_label_needs_no_field(tmp_path):
    inputs, labels = prototypes(6, 60)
    write_run(tmp_path, Local(eps="0.1"), inputs, labels, NAMES)
    before = read_run(tmp_path)
    without(tmp_path, *EARLIER)
    assert torch.equal(read_run(tmp_path).label_radius, before.label_radius)


def test_without_labels_there_are_none(tmp_path):
    write_run(tmp_path, RT3, prototypes(6, 9)[0], None, None)
    run = read_run(tmp_path)
    assert (run.labels, run.correct, run.label_radius) == (None, None, None)
    assert run.class_names == ("0", "1", "2", "3", "4", "5")


def change(folder, what):
    """One seeded contradiction."""
    summary = json.loads((folder / SUMMARY).read_text())
    lines = [json.loads(line) for line in (folder / POINTS).read_text().splitlines()]
    what(summary, lines)
    (folder / SUMMARY).write_text(json.dumps(summary))
    (folder / POINTS).write_text("".join(json.dumps(line) + "\n" for line in lines))


CHANGES = {
    "another radius in the property": (
        lambda s, _: s["property"].update(eps="1/1000"), "does not match its digest"),
    "a rejected point certified": (
        lambda _, lines: next(x for x in lines if not x["certified"]).update(certified=True),
        "certified is"),
    "a point that counts although it does not": (
        lambda _, lines: next(x for x in lines if not x["counts"]).update(counts=True),
        "figures.vra"),
    "fewer points rejected than are": (
        lambda s, _: s.update(rejection_rate=s["rejection_rate"] / 2), "rejection_rate"),
    "a rejected point that counts": (
        lambda _, lines: next(x for x in lines if x["counts"]).update(certified=False),
        "a rejected point counts"),
    "a line left out": (lambda _, lines: lines.pop(3), "index is 4, expected 3"),
    "the last line left out": (lambda _, lines: lines.pop(), "points is 60"),
    "a class too many": (lambda _, lines: lines[5].update(set=[99]), "speaks of class 99"),
    "a negative class": (lambda _, lines: lines[5].update(set=[-1]), "speaks of class -1"),
    "a margin that is text": (lambda _, lines: lines[5].update(margin="wide"), "field margin"),
    "no digest": (lambda s, _: s.pop("digest"), "field digest"),
    "a name too few": (lambda s, _: s["class_names"].pop(), "classes"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_contradictions_are_refused(folder, name):
    what, message = CHANGES[name]
    change(folder, what)
    with pytest.raises(DataError, match=message):
        read_run(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_files_that_are_no_json_are_refused(folder, content):
    for name in (SUMMARY, POINTS):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_run(folder)
        (folder / name).write_bytes(before)
    read_run(folder)


def test_runs_are_found_where_they_are(folder, tmp_path):
    assert find_runs(folder) == [folder]
    assert find_runs(folder / SUMMARY) == [folder]
    assert find_runs(tmp_path) == [folder]
    with pytest.raises(DataError, match="holds no"):
        find_runs(tmp_path / "nowhere")


ATTACK = {"points": 60, "certified": 10, "broken": 20, "open": 30, "certified_and_broken": 0}


def test_an_attack_of_something_else_is_refused(folder):
    run = read_run(folder)
    assert read_attack(run) is None
    own = {"digest": run.summary.digest, "weights_sha256": run.summary.weights_sha256}
    (folder / "attack.json").write_text(json.dumps({**ATTACK, **own}))
    assert read_attack(run).broken == 20
    for field in own:
        (folder / "attack.json").write_text(json.dumps({**ATTACK, **own, field: "0" * 64}))
        with pytest.raises(DataError, match="is about another"):
            read_attack(run)


def test_a_crosscheck_of_something_else_is_refused(folder, tmp_path):
    run = read_run(folder)
    counts = dict.fromkeys(
        ("points", "head_certified", "both_certify", "violations", "faults",
         "rejected_but_holds", "rejected_and_fails", "unknown"), 1
    )  # fmt: skip
    place = tmp_path / "check"
    place.mkdir()
    found = {**counts, "digest": run.summary.digest, "solver": "z3"}
    (place / "crosscheck.json").write_text(json.dumps(found))
    (place / "crosscheck.jsonl").write_text(json.dumps({"weights": run.summary.weights_sha256}))
    assert read_crosscheck(run) is None
    assert read_crosscheck(run, place).solver == "z3"
    (place / "crosscheck.jsonl").write_text(json.dumps({"weights": "0" * 64}))
    with pytest.raises(DataError, match="another weights"):
        read_crosscheck(run, place)
    (place / "crosscheck.jsonl").unlink()
    with pytest.raises(DataError, match="does not say of which weights"):
        read_crosscheck(run, place)
    for weights in ("0" * 64, run.summary.weights_sha256):
        (place / "crosscheck.json").write_text(json.dumps({**found, "weights_sha256": weights}))
        if weights == run.summary.weights_sha256:
            assert read_crosscheck(run, place).points == 1
        else:
            with pytest.raises(DataError, match="another weights"):
                read_crosscheck(run, place)
    with pytest.raises(DataError, match="no such file"):
        read_crosscheck(run, tmp_path)


def test_control_characters_in_names_are_not_shown(tmp_path):
    inputs, labels = prototypes(5, 20)
    names = ["a\x00b", "line\nbreak", "esc\x1b[31m", "plain", "\u202eright to left"]
    sets = AffinitySets([[0, 1], [2], [3], [4]], 5)
    write_run(tmp_path, Affinity(sets, eps="0.1"), inputs, labels, names)
    assert all(name.isprintable() for name in read_run(tmp_path).class_names)
