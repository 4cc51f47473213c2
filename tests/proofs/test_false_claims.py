"""False claims, each well formed and sealed: rejected at the step that is wrong, by name.

And each step of the checker taken out in turn: then a false claim passes, so the step is needed.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
import torch

from relaxcert import checker
from relaxcert.checker import bounds, verification
from relaxcert.spec import Local, RelaxedTopK, Targeted
from tests.proofs.made import Artefacts, made, sealed


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory) -> Artefacts:
    return made(tmp_path_factory.mktemp("claims"), lambda eps: RelaxedTopK(2, eps=eps))


def changed(artefacts: Artefacts, place: int, **fields: Any) -> list[dict[str, Any]]:
    lines = artefacts.lines()
    lines[place] = {**lines[place], **fields}
    return lines


def step_of(artefacts: Artefacts, lines: list[dict[str, Any]], tmp_path) -> tuple[str, int | None]:
    with pytest.raises(checker.Rejected) as caught:
        artefacts.check(certificate=sealed(lines, tmp_path / "changed"))
    return caught.value.step, caught.value.point


def place_of(artefacts: Artefacts, kind: str, number: int = 0) -> int:
    return [i for i, line in enumerate(artefacts.lines()) if line["kind"] == kind][number]


def with_smaller_bound(artefacts: Artefacts) -> list[dict[str, Any]]:
    """A bound 1 % below the norm, with the best witness that there is, and margins to match."""
    place = place_of(artefacts, "bound", 1)
    line = artefacts.lines()[place]
    weight = artefacts.net.backbone.get_submodule(line["layer"]).weight.detach().double()
    tall = weight if weight.shape[0] >= weight.shape[1] else weight.T
    bound = line["bound"] * 0.99
    sizes, vectors = torch.linalg.eigh(bound**2 * torch.eye(tall.shape[1]) - tall.T @ tall)
    root = vectors @ torch.diag(sizes.clamp(min=1e-6)) @ vectors.T
    lower = torch.linalg.cholesky(root).numpy()
    packed = lower[np.tril_indices(len(lower))].astype("<f8").tobytes()
    factor = base64.b64encode(packed).decode()
    return changed(artefacts, place, bound=bound, factor=factor, exponent=0)


def test_a_bound_below_the_norm(artefacts, tmp_path):
    assert step_of(artefacts, with_smaller_bound(artefacts), tmp_path) == (
        "bound of layer 4 (l2)",
        None,
    )


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_a_bound_below_the_row_or_column_sum(norm, tmp_path):
    artefacts = made(tmp_path, lambda eps: Local(eps=eps, norm=norm))
    place = place_of(artefacts, "bound", 1)
    low = artefacts.lines()[place]["bound"] * (1 - 1e-12)
    step, _ = step_of(artefacts, changed(artefacts, place, bound=low), tmp_path)
    assert step == f"bound of layer 4 ({norm})"


def test_a_bound_that_leaves_out_the_normalisation(artefacts, tmp_path):
    """The map that ends with layer 2 begins with a division by 0.25."""
    place = place_of(artefacts, "bound")
    line = artefacts.lines()[place]
    assert line["layer"] == "2"
    for share in (0.25, 0.999999):
        scaled = {"bound": line["bound"] * share, "factor": line["factor"]}
        for fields in (scaled, {**scaled, "factor": None, "exponent": 0}):
            lines = changed(artefacts, place, **fields)
            assert step_of(artefacts, lines, tmp_path)[0] == "bound of layer 2 (l2)"
    lines = changed(artefacts, place, bound=-line["bound"])
    assert step_of(artefacts, lines, tmp_path)[0] == "bound of layer 2 (l2)"


def test_a_bound_that_is_left_out_or_invented(artefacts, tmp_path):
    lines = artefacts.lines()
    del lines[place_of(artefacts, "bound", 1)]
    assert step_of(artefacts, lines, tmp_path)[0] == "bound of layer 4 (l2)"
    lines = changed(artefacts, place_of(artefacts, "bound", 1), norm="l1")
    assert step_of(artefacts, lines, tmp_path)[0] == "bound of layer 4 (l2)"
    for invented in ({"layer": "6"}, {"layer": "none"}, {"norm": "linf"}):
        lines = artefacts.lines()
        place = place_of(artefacts, "bound", 1)
        lines.insert(place + 1, {**lines[place], **invented})
        where = {"layer": "4", "norm": "l2", **invented}
        expected = f"bound of layer {where['layer']} ({where['norm']})"
        assert step_of(artefacts, lines, tmp_path)[0] == expected


@pytest.mark.parametrize("factor", [None, "", "AAAA", "AAAAAAAA8H8="])
def test_a_witness_that_is_missing_or_no_triangle(artefacts, factor, tmp_path):
    exponent = {} if factor else {"exponent": 0}
    lines = changed(artefacts, place_of(artefacts, "bound", 1), factor=factor, **exponent)
    assert step_of(artefacts, lines, tmp_path)[0] == "bound of layer 4 (l2)"


def test_margin_radius_and_set(artefacts, tmp_path):
    place = place_of(artefacts, "point", 1)
    line = artefacts.lines()[place]
    for field in ("margin", "radius"):
        lines = changed(artefacts, place, **{field: line[field] * (1 + 1e-6)})
        assert step_of(artefacts, lines, tmp_path) == (field, line["index"])
    for fields in (
        {"set": [label for label in range(4) if label not in line["set"]]},
        {"k": 3, "set": [0, 1, 2]},
        {"k": 0, "set": []},
        {"strictest_k": 3},
    ):
        assert step_of(artefacts, changed(artefacts, place, **fields), tmp_path) == (
            "set",
            line["index"],
        )
    for margin in (0.0, -1.0):
        lines = changed(artefacts, place, margin=margin)
        assert step_of(artefacts, lines, tmp_path) == ("margin", line["index"])
    lines = changed(artefacts, place, radius="inf")
    assert step_of(artefacts, lines, tmp_path) == ("radius", line["index"])


def test_a_point_that_was_not_certified(artefacts, tmp_path):
    """Everything else is right: its hash, its place, the counts."""
    skipped = int((~artefacts.certificates.certified).nonzero()[0])
    lines, hashes = artefacts.lines(), verification.hashes_of(artefacts.inputs.numpy())
    points = [line for line in lines if line["kind"] == "point"]
    extra = {**points[0], "index": skipped, "input": hashes[skipped].hex(), "margin": 1e-300}
    points = sorted([*points, extra], key=lambda line: line["index"])
    bounds = [line for line in lines if line["kind"] == "bound"]
    lines = [{**lines[0], "certified": len(points)}, *bounds, *points]
    assert step_of(artefacts, lines, tmp_path) == ("margin", skipped)


def test_targets_and_compositions(tmp_path):
    target = made(tmp_path / "t", lambda eps: Targeted.neighbours([0, 1, 2, 3], eps=eps))
    place = place_of(target, "point")
    assert step_of(target, changed(target, place, set=[0, 1, 2, 3]), tmp_path)[0] == "set"
    both = made(tmp_path / "b", lambda eps: Local(eps=eps) | RelaxedTopK(3, eps=eps))
    place = place_of(both, "point")
    assert step_of(both, changed(both, place, k=1, set=[0]), tmp_path)[0] == "set"


@pytest.mark.parametrize(
    "fields",
    [
        {"level": "D"},
        {"version": 1},
        {"format": "other"},
        {"points": 7.0},
        {"points": True},
        {"certified": 1},
        {"extra": 1},
        {"digest": "A" * 64},
        {"weights": "0"},
    ],
    ids=str,
)
def test_a_header_of_another_form_is_unreadable(artefacts, fields, tmp_path):
    lines = changed(artefacts, 0, **fields)
    with pytest.raises(checker.Unreadable):
        artefacts.check(certificate=sealed(lines, tmp_path / "changed"))


@pytest.mark.parametrize(
    "fields",
    [
        {"margin": 1},
        {"margin": float("nan")},
        {"margin": None},
        {"radius": "infinite"},
        {"set": [0.0]},
        {"set": [True]},
        {"set": "01"},
        {"k": True},
        {"index": -1},
        {"index": 70},
        {"kind": "bound"},
        {"input": "00"},
    ],
    ids=str,
)
def test_a_point_of_another_form_is_unreadable(artefacts, fields, tmp_path):
    lines = changed(artefacts, place_of(artefacts, "point"), **fields)
    with pytest.raises(checker.Unreadable):
        artefacts.check(certificate=sealed(lines, tmp_path / "changed"))


def test_without_the_check_of_witnesses_a_false_bound_passes(artefacts, tmp_path, monkeypatch):
    lines = with_smaller_bound(artefacts)
    monkeypatch.setattr(bounds, "_spectral", lambda found, bound, step: True)
    artefacts.check(certificate=sealed(lines, tmp_path / "changed"))


def test_with_stated_margins_believed_a_false_margin_passes(artefacts, tmp_path, monkeypatch):
    place = place_of(artefacts, "point")
    margin = artefacts.lines()[place]["margin"] * 2
    lines = changed(artefacts, place, margin=margin)
    assert step_of(artefacts, lines, tmp_path)[0] == "margin"
    true = verification.evaluate

    def believing(prop, logits, link, radius):
        found = true(prop, logits, link, radius)
        return verification.Finding(found.margin + 1000, found.prefixes)

    monkeypatch.setattr(verification, "evaluate", believing)
    artefacts.check(certificate=sealed(lines, tmp_path / "changed"))


def test_without_the_residual_a_wrong_factor_passes(artefacts, tmp_path, monkeypatch):
    """Only the diagonal of R compared, not the rows: the false witness is not seen."""
    lines = with_smaller_bound(artefacts)

    def diagonal_only(found, bound, step):
        return True if bound["factor"] else true(found, bound, step)

    true = bounds._spectral
    monkeypatch.setattr(bounds, "_spectral", diagonal_only)
    artefacts.check(certificate=sealed(lines, tmp_path / "changed"))


def test_without_the_hashes_other_points_pass(artefacts, monkeypatch):
    """A point that is not certified is changed: only the hash of all points tells."""
    skipped = int((~artefacts.certificates.certified).nonzero()[0])
    numbers = artefacts.inputs.numpy().copy()
    numbers[skipped] += 1
    with pytest.raises(checker.Rejected, match="inputs"):
        artefacts.check(data=numbers)
    monkeypatch.setattr(verification, "_check_identity", lambda *arguments: None)
    artefacts.check(data=numbers)


def test_a_weaker_claim_under_a_forged_seal_is_accepted_for_it_is_true(artefacts, tmp_path):
    """The seal guards the file as a whole; the truth of claims does not hang on it."""
    place = place_of(artefacts, "point")
    lines = changed(artefacts, place, margin=1e-12)
    assert artefacts.check(certificate=sealed(lines, tmp_path / "changed")).certified > 0
