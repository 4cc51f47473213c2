"""Several properties at a point: what is learnt for one serves the others."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
import torch

from relaxcert.errors import InvalidInput
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.nn.networks import dense
from relaxcert.smt import crosscheck, crosscheck_all, exact_network
from relaxcert.smt.judge import PointJudge
from relaxcert.smt.solver import Reply, Script, solver_named
from relaxcert.spec import Affinity, AffinitySets, Local, RelaxedTopK, TopK
from relaxcert.spec.verdict import Answer
from tests.smt.networks import regions

BALL = {"eps": "0.3", "norm": "linf"}


class Counting:
    """z3, and how often it was asked."""

    name = "counting"

    def __init__(self) -> None:
        self.calls = 0
        self.inner = solver_named("z3")

    def check(self, script: Script, *, seconds: float, rlimit: int) -> Reply:
        self.calls += 1
        return self.inner.check(script, seconds=seconds, rlimit=rlimit)


@pytest.fixture(scope="module")
def many_inputs():
    """With 14 inputs boxes are not cut: each question that bounds leave open is the solver's."""
    torch.manual_seed(0)
    return GloRoNet(dense(14, [10], 3, activation="relu"), Local(**BALL)).double().eval()


def judge_at(net: GloRoNet, solver: Counting) -> PointJudge:
    point = tuple(Fraction(i % 5 - 2, 3) for i in range(14))
    return PointJudge(exact_network(net.backbone, (14,)), point, 20.0, solver)


PROPS = [
    TopK(2, eps="0.05", norm="linf"),
    RelaxedTopK(2, eps="0.05", norm="linf"),
    Affinity(AffinitySets([[0, 1], [1, 2], [0, 2]], num_classes=3), eps="0.05", norm="linf"),
    TopK(2, eps="0.04", norm="linf") & RelaxedTopK(2, eps="0.05", norm="linf"),
]


def asked(net: GloRoNet, eps: str, *, shared: bool) -> tuple[list[Answer], list[int]]:
    """Answers and solver calls of each property, by one judge or by a new one each."""
    solver = Counting()
    judge = judge_at(net, solver)
    answers: list[Answer] = []
    calls: list[int] = []
    for prop in PROPS:
        before = solver.calls
        judge = judge if shared else judge_at(net, solver)
        answers.append(judge.judge(prop.with_eps(eps)).verdict.answer)
        calls.append(solver.calls - before)
    return answers, calls


def test_atoms_that_one_property_settled_are_not_asked_again(many_inputs):
    """Among radii one is found at which z3 decides; there the later properties ask nothing."""
    for eps in [f"{n / 100:.2f}" for n in range(2, 60, 2)]:
        answers, alone = asked(many_inputs, eps, shared=False)
        again, together = asked(many_inputs, eps, shared=True)
        assert again == answers
        assert sum(together) <= sum(alone)
        if alone[0] and set(answers) == {Answer.CERTIFIED}:
            assert together[0] == alone[0]
            assert sum(together[1:]) < sum(alone[1:])
            return
    pytest.fail("z3 was never needed: the test shows nothing")


def test_each_property_gets_the_verdict_that_it_gets_alone():
    torch.manual_seed(0)
    net = GloRoNet(dense(2, [16, 16], 4), RelaxedTopK(2, eps=0.05)).eval()
    points = regions(2, 4, 30, 7)[0]
    props = [
        RelaxedTopK(2, eps=0.05),
        Local(eps=0.05),
        Local(eps=0.05) & TopK(2, eps=0.04),
        Affinity(AffinitySets.adjacent([0, 1, 2, 3]), eps=0.05),
        TopK(2, eps=0.05, norm="linf"),
    ]
    for at_radius in (False, True):
        chosen = [p for p in props if not at_radius or len(p.balls) == 1]
        together = crosscheck_all(net, points, chosen, at_radius=at_radius)
        for prop, found in zip(chosen, together, strict=True):
            alone = crosscheck(net, points, prop, at_radius=at_radius)
            assert [r["answer"] for r in found.records] == [r["answer"] for r in alone.records]
            assert [r["certified"] for r in found.records] == [
                r["certified"] for r in alone.records
            ]
            assert found.summary()["digest"] == alone.summary()["digest"]
            boxes = [sum(r["boxes"] for r in one.records) for one in (found, alone)]
            assert boxes[0] <= boxes[1]


def test_results_of_several_properties_are_resumed_together(tmp_path):
    torch.manual_seed(0)
    net = GloRoNet(dense(2, [8], 3), Local(eps=0.05)).eval()
    points = regions(2, 3, 9, 7)[0]
    props = [Local(eps=0.05), TopK(2, eps=0.05)]
    path = tmp_path / "results.jsonl"
    whole = crosscheck_all(net, points, props, records=path)
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 2 * 9
    path.write_text("".join(lines[:6]))  # two points, and half of a third
    done: list[int] = []
    again = crosscheck_all(net, points, props, records=path, on_records=done.append)
    assert sum(done) == 7
    assert [len(one.records) for one in again] == [9, 9]
    for one, other in zip(whole, again, strict=True):
        assert [r["answer"] for r in one.records] == [r["answer"] for r in other.records]
    places = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert len({(r["index"], r["property"]) for r in places}) == len(places) == 18
    with pytest.raises(InvalidInput, match="props is empty"):
        crosscheck_all(net, points, [])
