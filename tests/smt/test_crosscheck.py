"""Cross-checking whole networks: consistency on honest ones, and that seeded faults are caught."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

import relaxcert
from relaxcert.errors import DataError, InvalidInput, InvalidProperty, UnsupportedLayer
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.lipschitz.network import NetworkLipschitz
from relaxcert.lipschitz.pairs import TablePairs
from relaxcert.smt import NetworkTooLarge, bounds, crosscheck, encode, encoders, judge
from relaxcert.smt.translate import exact_network
from relaxcert.spec import Local, RelaxedTopK, TopK
from relaxcert.spec.verdict import Answer
from tests.smt.networks import affine, regions, trained

PROP = RelaxedTopK(2, eps=0.15)


@pytest.fixture(scope="module")
def net():
    return trained(PROP)


@pytest.fixture(scope="module")
def points():
    return regions(2, 4, 200, 7)[0]


def honest(net):
    return type(net).certify.__get__(net)


@pytest.mark.parametrize("at_radius", [False, True])
@pytest.mark.parametrize(
    "prop",
    [
        PROP,
        RelaxedTopK(3, eps=0.15, quantifier="pointwise"),
        Local(eps=0.02, norm="linf"),
        TopK(2, eps=0.1) & Local(eps=0.05) | RelaxedTopK(3, eps=0.2),
    ],
    ids=["uniform", "pointwise", "linf", "composed"],
)
def test_an_honest_network_is_consistent(net, points, prop, at_radius):
    found = crosscheck(net, points[:60], prop, at_radius=at_radius, audit_every=15)
    summary = found.summary()
    assert found.consistent, (found.violations[:1], found.faults[:1])
    assert summary["points"] == 60
    assert summary["both_certify"] >= 20
    assert summary["unknown"] == 0
    if not at_radius:
        assert summary["rejected_and_fails"] > 0


def test_points_that_are_not_finite_are_unknown(net, points):
    strange = points[:3].clone()
    strange[1, 0] = math.nan
    found = crosscheck(net, strange)
    assert [r["answer"] == "unknown" for r in found.records] == [False, True, False]
    assert found.records[1]["reason"] == "the input is not finite"


def with_eps_scaled(monkeypatch, factor):
    true_certify = GloRoNet.certify

    def certify(self, inputs, **rest):
        scaled = self.prop.with_eps(self.prop.balls[0].eps * factor)
        return true_certify(GloRoNet(self.backbone, scaled), inputs, **rest)

    monkeypatch.setattr(GloRoNet, "certify", certify)


def with_pairs(monkeypatch, change):
    """Let the verified D[j, i] be something else."""
    true_bounds = NetworkLipschitz.verified

    def verified(self, *arguments, **rest):
        proved = true_bounds(self, *arguments, **rest)
        norms = {
            norm: replace(bound, distances=TablePairs(change(bound.pairs.clone())))
            for norm, bound in proved.norms.items()
        }
        return replace(proved, norms=norms)

    monkeypatch.setattr(NetworkLipschitz, "verified", verified)


def forget_pair(pairs):
    pairs[0, 1] = pairs[1, 0] = 0.0
    return pairs


def test_a_head_with_too_small_a_radius_is_caught(monkeypatch, net, points):
    """Only points between 0.9 eps and eps from a flip can tell: a few of 200 for each property."""
    props = [PROP, RelaxedTopK(2, eps=0.2), TopK(2, eps=0.15), RelaxedTopK(3, eps=0.2)]
    assert all(crosscheck(net, points, prop, audit_every=0).consistent for prop in props)
    with_eps_scaled(monkeypatch, Fraction(9, 10))
    found = [crosscheck(net, points, prop, audit_every=0).violations for prop in props]
    assert any(found)


@pytest.mark.parametrize("change", [lambda pairs: 0.9 * pairs, forget_pair])
def test_a_head_with_wrong_constants_is_caught_at_its_radius(monkeypatch, net, points, change):
    with_pairs(monkeypatch, change)
    found = crosscheck(net, points, Local(eps=0.15), at_radius=True, audit_every=0)
    violation = found.violations[0]
    assert violation["certified"]
    assert violation["answer"] == "falsified"
    # The evidence speaks for itself: in the ball, and another class is at least as high.
    network = exact_network(net.backbone, (2,))
    witness = tuple(map(Fraction, violation["evidence"][0]["witness"]))
    centre = [Fraction(v) for v in points[violation["index"]].double().tolist()]
    moved = sum((a - b) ** 2 for a, b in zip(witness, centre, strict=True))
    assert moved <= Fraction(violation["eps"]) ** 2
    logits = network.logits(witness)
    top = violation["ranking"][0]
    assert max(v for i, v in enumerate(logits) if i != top) >= logits[top]


def dropped_unit(monkeypatch):
    true_sort = encoders.sort_pairs

    def sort_pairs(left, right, size):
        gate = true_sort(left, right, size)
        gain = gate.gain.matrix.copy()
        gain[:, 0] = 0
        return replace(gate, gain=replace(gate.gain, matrix=gain))

    monkeypatch.setattr(encoders, "sort_pairs", sort_pairs)


def swapped_min_and_max(monkeypatch):
    true_sort = encoders.sort_pairs
    monkeypatch.setattr(encoders, "sort_pairs", lambda a, b, size: true_sort(b, a, size))


def bounds_inward(monkeypatch):
    true_bounds = bounds.bounds_over

    def narrowed(*arguments, **rest):
        found = true_bounds(*arguments, **rest)
        width = [(b - a) * 2.0**-12 for a, b in zip(found.lower, found.upper, strict=True)]
        return replace(
            found,
            lower=tuple(low + w for low, w in zip(found.lower, width, strict=True)),
            upper=tuple(high - w for high, w in zip(found.upper, width, strict=True)),
        )

    monkeypatch.setattr("relaxcert.smt.audit.bounds_over", narrowed)
    monkeypatch.setattr("relaxcert.smt.branch.bounds_over", narrowed)


def phase_dropped_from_the_text(monkeypatch):
    """The solver's text says r = 0 or nothing: the second alternative of the first unit is lost."""
    true_tie = encode._Encoder._tie

    def tie(self, z, variable, lines, opened, columns):
        true_tie(self, z, variable, lines, opened, columns)
        self.lines.append(f"(assert (<= {self.names[columns[opened[0]]]} 0))")

    monkeypatch.setattr(encode._Encoder, "_tie", tie)


@pytest.mark.parametrize(
    "fault", [dropped_unit, swapped_min_and_max, bounds_inward, phase_dropped_from_the_text]
)
def test_a_faulty_encoder_is_caught_by_the_audit(monkeypatch, net, points, fault):
    fault(monkeypatch)
    found = crosscheck(net, points[:40], Local(eps=0.2, norm="linf"), audit_every=4)
    assert found.faults
    assert not found.consistent


def test_results_are_resumed_and_belong_to_their_run(net, points, tmp_path):
    path = tmp_path / "results.jsonl"
    whole = crosscheck(net, points[:12], records=path)
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 13
    # A run that was killed while it wrote its fifth record.
    path.write_text("".join(lines[:5]) + lines[5][:20])
    done: list[int] = []
    again = crosscheck(net, points[:12], records=path, on_records=done.append)
    assert sum(done) == 8
    assert [r["answer"] for r in again.records] == [r["answer"] for r in whole.records]
    indices = [json.loads(line)["index"] for line in path.read_text().splitlines()[1:]]
    assert sorted(indices) == list(range(12))
    with pytest.raises(DataError, match="holds results of another run: its property"):
        crosscheck(net, points[:12], Local(eps=0.1), records=path)
    path.write_text("not json\n")
    with pytest.raises(DataError, match="line 1: not JSON"):
        crosscheck(net, points[:12], records=path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"property": 1}, "field 'property'"),
        ({"index": 3}, "field 'index'"),
        ({"index": -1}, "field 'index'"),
        ({"index": False}, "field 'index'"),
        ({"index": 1}, "a second result"),
        ({"answer": "falsified", "certified": True, "finding": "consistent"}, "no result"),
        ({"answer": None}, "no result"),
        ({"finding": "fine"}, "no result"),
        ({"certified": "true"}, "no result"),
    ],
)
def test_what_is_no_result_of_the_run_is_not_taken_for_one(net, points, tmp_path, changes, said):
    """A point that counts as done is not judged again: it must not hide a violation."""
    path = tmp_path / "results.jsonl"
    crosscheck(net, points[:3], records=path)
    header, first, *others = path.read_text().splitlines()
    record = {**json.loads(first), **changes}
    path.write_text("\n".join([header, *others, json.dumps(record)]) + "\n")
    with pytest.raises(DataError, match=said):
        crosscheck(net, points[:3], records=path)


def test_any_executor_will_do(net, points):
    with ThreadPoolExecutor(2) as pool:
        spread = crosscheck(net, points[:20], executor=pool, jobs=2)
    here = crosscheck(net, points[:20])
    assert [r["answer"] for r in spread.records] == [r["answer"] for r in here.records]


def test_mistakes_are_explained(net, points):
    with pytest.raises(InvalidInput, match=r"budget=0\.0 must be a number of seconds greater"):
        crosscheck(net, points, budget=0)
    with pytest.raises(InvalidInput, match="budget='soon' is not a time"):
        crosscheck(net, points, budget="soon")
    with pytest.raises(InvalidInput, match=r"solver='z4' is unknown, expected one of .*z3"):
        crosscheck(net, points, solver="z4")
    with pytest.raises(InvalidProperty, match="k=4 must be smaller than the number of classes"):
        crosscheck(net, points, TopK(4, eps=0.1))
    with pytest.raises(InvalidInput, match="holds no points"):
        crosscheck(net, points[:0])
    smooth = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    with pytest.raises(UnsupportedLayer, match=r"Tanh, a smooth function.*piecewise-linear"):
        exact_network(smooth, (2,))
    wide = torch.nn.Sequential(
        torch.nn.Linear(2, 5000), torch.nn.ReLU(), torch.nn.Linear(5000, 5000)
    )
    with pytest.raises(NetworkTooLarge, match="Would fit: 3 layers of up to 1154 numbers"):
        exact_network(wide, (2,))


def test_a_point_out_of_time_is_unknown_with_the_reason():
    network = exact_network(trained_wide(), (12,))
    point = tuple(Fraction(i, 7) for i in range(12))
    found = judge(network, point, Local(eps=2), budget=1e-9)
    assert found.verdict.answer is Answer.UNKNOWN
    assert "timeout" in found.verdict.reason


def trained_wide():
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Linear(12, 24), torch.nn.ReLU(), torch.nn.Linear(24, 3), torch.nn.Identity()
    )


def test_crosscheck_is_public():
    assert relaxcert.crosscheck is crosscheck
    net = GloRoNet(affine([[1.0], [-1.0]], [0.0, 0.0]), Local(eps=1))
    found = relaxcert.crosscheck(net, torch.tensor([[2.0], [0.5]]))
    assert [r["answer"] for r in found.records] == ["certified", "falsified"]
