"""The reference, the head, the attack and the solver pass the suite; dishonest backends do not."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from relaxcert.attacks import attack
from relaxcert.heads import GloRoNet
from relaxcert.spec.ranking import Ranking
from relaxcert.spec.reference import holds
from relaxcert.spec.verdict import CERTIFIED, Answer, falsified, unknown
from relaxcert.testing import BackendConformance
from relaxcert.testing.backends import breaks
from relaxcert.testing.exact import exact_vector, forward, in_ball
from relaxcert.testing.lines import Segment
from tests.testing.wrong import failed


def grid(backbone, prop, point) -> list[list[Fraction]]:
    """The points of every ball whose coordinates differ from x by multiples of eps / 4."""
    centre = exact_vector(point)
    found = []
    for ball in dict.fromkeys(prop.balls):
        steps = [ball.eps * Fraction(n, 4) for n in range(-4, 5)]
        rows = [[]]
        for x in centre:
            rows = [[*row, x + step] for row in rows for step in steps]
        found += [row for row in rows if in_ball(ball, centre, row)]
    return found


def breaking(backbone, prop, point, candidates) -> tuple[Fraction, ...]:
    """The first candidate that breaks something; x itself if each breaks only together."""
    centre = exact_vector(point)
    formula = prop.formula(Ranking.of(forward(backbone, centre)))
    for witness in candidates:
        if breaks(formula, centre, witness, forward(backbone, witness)):
            return tuple(witness)
    return tuple(centre)


class TestReferenceOnAGrid(BackendConformance):
    """The definition on finitely many exact points: it refutes, and never proves."""

    proves = False
    share = 0.3

    def decide(self, backbone, prop, point):
        if not bool(point.isfinite().all()):
            return unknown("the point is not finite")
        centre, points = exact_vector(point), grid(backbone, prop, point)

        def logits_in(ball):
            return [forward(backbone, p) for p in points if in_ball(ball, centre, p)]

        if holds(prop, forward(backbone, centre), logits_in):
            return unknown("no grid point breaks it")
        return falsified(breaking(backbone, prop, point, points))


class TestExactOnOneInput(BackendConformance):
    """Complete for one input, which is what ``complete`` asks for."""

    complete = True

    def decide(self, backbone, prop, point):
        if not bool(point.isfinite().all()) or len(point) > 1:
            return unknown("only finite points of networks with one input are decided")
        segment = Segment(backbone, exact_vector(point), [Fraction(1)])
        if segment.holds(prop):
            return CERTIFIED
        points = [p for ball in prop.balls for p in segment.points_in(ball)]
        return falsified(breaking(backbone, prop, point, points))


class TestHead(BackendConformance):
    refutes = False

    def decide(self, backbone, prop, point):
        return GloRoNet(backbone, prop).certify(point[None]).verdict[0]


class TestAttack(BackendConformance):
    proves = False
    share = 0.15

    def decide(self, backbone, prop, point):
        net = GloRoNet(backbone, prop)
        result = attack(net, point[None], steps=10, restarts=2)
        if not bool(result.falsified):
            return unknown("the attack found nothing")
        rows = result.witnesses[0][result.broken[0]].tolist()
        candidates = [[Fraction(value) for value in row] for row in rows]
        return falsified(breaking(backbone, prop, point, candidates))


class TestSolver(BackendConformance):
    complete = True
    share = 0.3

    def decide(self, backbone, prop, point):
        smt = pytest.importorskip("relaxcert.smt")
        pytest.importorskip("z3")
        if not bool(point.isfinite().all()):
            return unknown("the point is not finite")
        exact = smt.exact_network(backbone, (len(point),))
        return smt.judge(exact, exact_vector(point), prop).verdict


# --- dishonest backends ------------------------------------------------------------------------


class CertifiesEverything(TestExactOnOneInput):
    def decide(self, backbone, prop, point):
        return CERTIFIED


class GivesUpWithoutAReason(TestExactOnOneInput):
    complete = False

    def decide(self, backbone, prop, point):
        return unknown("")


class KnowsNothing(TestExactOnOneInput):
    complete = False

    def decide(self, backbone, prop, point):
        return unknown("never tried")


class AnswersWithABool(TestExactOnOneInput):
    def decide(self, backbone, prop, point):
        return super().decide(backbone, prop, point).answer is Answer.CERTIFIED


class WitnessOutsideTheBall(TestExactOnOneInput):
    def decide(self, backbone, prop, point):
        verdict = super().decide(backbone, prop, point)
        if verdict.witness is None:
            return verdict
        return falsified(tuple(1000 + value for value in verdict.witness))


class LooksAtTheCornersOnly(TestExactOnOneInput):
    """Two points of the ball are not all of them."""

    def decide(self, backbone, prop, point):
        if not bool(point.isfinite().all()):
            return unknown("not finite")
        centre = exact_vector(point)
        truth = holds(
            prop,
            forward(backbone, centre),
            lambda ball: [forward(backbone, [centre[0] + s * ball.eps]) for s in (-1, 1)],
        )
        return CERTIFIED if truth else super().decide(backbone, prop, point)


class ForgetsTies(TestHead):
    """Whatever the head says of the network with its tie broken."""

    def decide(self, backbone, prop, point):
        moved = backbone
        if isinstance(backbone[-1], nn.Linear):
            moved = nn.Sequential(*backbone[:-1], nn.Linear(*reversed(backbone[-1].weight.shape)))
            with torch.no_grad():
                moved[-1].weight.copy_(backbone[-1].weight)
                bump = torch.tensor([1.0, 0.0, 0.0]) * (
                    backbone[-1].bias[0] == backbone[-1].bias[1]
                )
                moved[-1].bias.copy_(backbone[-1].bias + 8 * bump)
        return super().decide(moved, prop, point)


WRONG = [
    (CertifiesEverything, "test_answers_are_true_on_networks_that_are_decided_exactly"),
    (CertifiesEverything, "test_no_line_through_the_ball_refutes_a_certificate"),
    (CertifiesEverything, "test_non_finite_points_are_unknown_or_refused"),
    (GivesUpWithoutAReason, "test_answers_are_true_on_networks_that_are_decided_exactly"),
    (KnowsNothing, "test_easy_questions_are_answered"),
    (AnswersWithABool, "test_easy_questions_are_answered"),
    (WitnessOutsideTheBall, "test_easy_questions_are_answered"),
    (LooksAtTheCornersOnly, "test_a_violation_that_the_ends_of_the_ball_do_not_show_is_seen"),
    (ForgetsTies, "test_a_tie_at_the_point_certifies_nothing_that_it_touches"),
]


@pytest.mark.parametrize(("suite", "check"), WRONG, ids=lambda x: getattr(x, "__name__", x))
def test_a_dishonest_backend_fails(suite, check):
    assert failed(suite, check)
