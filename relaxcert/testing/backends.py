"""BackendConformance: everything that something which decides properties inherits.

class TestMySolver(BackendConformance):
    complete = True

    def decide(self, backbone, prop, point):
        return my_solver(backbone, prop, point)  # a Verdict
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from relaxcert.errors import RelaxcertError
from relaxcert.spec import formula as formulas
from relaxcert.spec.formula import AllOf, AnyOf, Formula, Throughout
from relaxcert.spec.prefix import Local, TopK
from relaxcert.spec.property import Property
from relaxcert.spec.ranking import Ranking
from relaxcert.spec.targeted import Targeted
from relaxcert.spec.verdict import Answer, Verdict
from relaxcert.testing.exact import exact_vector, forward, in_ball
from relaxcert.testing.lines import Segment
from relaxcert.testing.running import ConformanceFailure, for_all, require
from relaxcert.testing.strategies.backbones import networks
from relaxcert.testing.strategies.points import exact_points
from relaxcert.testing.strategies.specification import balls, properties

CLASSES = 3
_RADII = st.fractions(Fraction(1, 8), 4, max_denominator=8)


class BackendConformance:
    """The conformance suite of a backend: subclass it and define ``decide``.

    Attributes:
        proves: whether it ever answers CERTIFIED (an attack does not).
        refutes: whether it ever answers FALSIFIED (a head does not).
        complete: whether it decides every small network; then UNKNOWN is a failure too.
        share: of the examples of the profile in force, for backends that take long.
    """

    proves: ClassVar[bool] = True
    refutes: ClassVar[bool] = True
    complete: ClassVar[bool] = False
    share: ClassVar[float] = 0.5

    def decide(self, backbone: nn.Module, prop: Property, point: Tensor) -> Verdict:
        """The backend's verdict on one point, (features,), of a float32 backbone in eval mode."""
        raise ConformanceFailure(f"{type(self).__name__} must define decide().")

    def asked(self, backbone: nn.Module, prop: Property, point: Tensor) -> Verdict:
        """The verdict, after what can be seen from it alone has been checked."""
        verdict = self.decide(backbone, prop, point)
        require(type(verdict) is Verdict, f"the backend answers {verdict!r}, expected a Verdict.")
        if verdict.answer is Answer.UNKNOWN:
            require(verdict.reason.strip(), f"UNKNOWN without a reason for {prop!r}.")
            require(verdict.witness is None, "UNKNOWN comes with a witness.")
        elif verdict.answer is Answer.FALSIFIED:
            require(self.refutes, f"{prop!r} is FALSIFIED by a backend that refutes nothing.")
            check_witness(backbone, prop, point, verdict)
        else:
            require(self.proves, f"{prop!r} is CERTIFIED by a backend that proves nothing.")
        return verdict

    def questions(self, features: int) -> tuple[st.SearchStrategy[object], ...]:
        """Networks, properties of every kind, and points."""
        small = networks(features=features, num_classes=CLASSES, max_layers=2)
        ball = balls(eps=_RADII)
        return small, properties(CLASSES, ball=ball), exact_points(features)

    def test_answers_are_true_on_networks_that_are_decided_exactly(self) -> None:
        """One input: CERTIFIED and FALSIFIED against every point of the ball, exactly."""

        @for_all(*self.questions(1), share=self.share)
        def agrees(backbone: nn.Module, prop: Property, point: Sequence[Fraction]) -> None:
            truth = Segment(backbone, point, [Fraction(1)]).holds(prop)
            verdict = self.asked(backbone, prop, as_tensor(point))
            wrong = Answer.FALSIFIED if truth else Answer.CERTIFIED
            require(
                verdict.answer is not wrong,
                f"{prop!r} {'holds' if truth else 'fails'} at {list(map(str, point))} of "
                f"{shown(backbone)}, but the backend says {verdict}.",
            )
            require(
                not self.complete or verdict.answer is not Answer.UNKNOWN,
                f"the backend is complete, but says {verdict} of {prop!r} and {shown(backbone)}.",
            )

        del agrees

    def test_no_line_through_the_ball_refutes_a_certificate(self) -> None:
        """Two inputs: the axes and diagonals through x, exactly."""

        @for_all(*self.questions(2), share=self.share)
        def sound(backbone: nn.Module, prop: Property, point: Sequence[Fraction]) -> None:
            verdict = self.asked(backbone, prop, as_tensor(point))
            if verdict.answer is Answer.CERTIFIED:
                for direction in ((1, 0), (0, 1), (1, 1), (1, -1), (3, 1)):
                    segment = Segment(backbone, point, [Fraction(d) for d in direction])
                    require(
                        segment.holds(prop),
                        f"{prop!r} is CERTIFIED at {list(map(str, point))} of {shown(backbone)}, "
                        f"but fails on the line along {direction}.",
                    )

        del sound

    def test_a_tie_at_the_point_certifies_nothing_that_it_touches(self) -> None:
        """Two classes with the same weights: their order is never certain."""

        @for_all(*self.questions(1), share=self.share)
        def uncertain(backbone: nn.Sequential, prop: Property, point: Sequence[Fraction]) -> None:
            tied = with_twin_classes(backbone)
            verdict = self.asked(tied, prop, as_tensor(point))
            if verdict.answer is Answer.CERTIFIED:
                require(
                    Segment(tied, point, [Fraction(1)]).holds(prop),
                    f"{prop!r} is CERTIFIED although classes 0 and 1 are equal everywhere.",
                )

        del uncertain

    def test_non_finite_points_are_unknown_or_refused(self) -> None:
        """NaN and infinity: never a verdict."""
        backbone = nn.Sequential(nn.Linear(1, CLASSES)).eval()
        for bad in (math.nan, math.inf, -math.inf):
            try:
                verdict = self.decide(backbone, Local(eps=1), torch.tensor([bad]))
            except RelaxcertError:
                continue
            require(verdict.answer is Answer.UNKNOWN, f"a point with {bad} is {verdict}.")

    def test_easy_questions_are_answered(self) -> None:
        """A backend that always says UNKNOWN is honest, and useless."""
        for prop in (Local(eps="1/2"), TopK(2, eps="1/2", norm="linf")):
            clear = linear([[0.0], [0.0], [0.0]], [9.0, 5.0, 0.0])
            crossing = linear([[1.0], [-1.0], [0.0]], [0.0, 0.0, -1.0])
            if self.proves:
                verdict = self.asked(clear, prop, torch.tensor([0.25]))
                require(
                    verdict.answer is Answer.CERTIFIED,
                    f"constant logits 9, 5, 0 are not CERTIFIED for {prop!r}: {verdict}.",
                )
            if self.refutes:
                wide = prop.with_eps(8)
                verdict = self.asked(crossing, wide, torch.tensor([0.25]))
                require(
                    verdict.answer is Answer.FALSIFIED,
                    f"logits x, -x, -1 around x = 1/4 are not FALSIFIED for {wide!r}: {verdict}.",
                )

    def test_a_violation_that_the_ends_of_the_ball_do_not_show_is_seen(self) -> None:
        """A bump of class 1 between 1/2 and 3/2; x = 0, and both ends at -2 and 2, are fine."""
        bump = nn.Sequential(
            linear([[1.0], [1.0], [1.0]], [0.0, -1.0, -2.0]),
            nn.ReLU(),
            linear([[0.0] * 3, [2.0, -4.0, 2.0], [0.0] * 3], [1.0, 0.0, -1.0]),
        )
        for prop in (Local(eps=2), Targeted([[0, 2], [1], [2]], eps=2)):
            verdict = self.asked(bump, prop, torch.tensor([0.0]))
            require(
                verdict.answer is not Answer.CERTIFIED,
                f"{prop!r} is CERTIFIED at 0, but class 1 wins at 1.",
            )

    def test_a_violation_that_only_touches_the_ball_is_seen(self) -> None:
        """Logits x, 0, -9 around x = 1 with radius 1: a tie at 0, and nowhere else."""
        touching = linear([[1.0], [0.0], [0.0]], [0.0, 0.0, -9.0])
        for norm in ("l2", "linf", "l1"):
            prop = Local(eps=1, norm=norm)
            verdict = self.asked(touching, prop, torch.tensor([1.0]))
            require(
                verdict.answer is not Answer.CERTIFIED,
                f"{prop!r} is CERTIFIED at 1, but classes 0 and 1 tie at 0, in the ball.",
            )
            require(
                not self.complete or verdict.answer is Answer.FALSIFIED,
                f"the backend is complete, but says {verdict} of {prop!r}: 0 and 1 tie.",
            )

    def test_the_answer_is_the_same_twice(self) -> None:
        """Verdicts can be reproduced."""

        @for_all(*self.questions(1), share=self.share * 0.3)
        def same(backbone: nn.Module, prop: Property, point: Sequence[Fraction]) -> None:
            first, second = (self.decide(backbone, prop, as_tensor(point)) for _ in range(2))
            require(first.answer is second.answer, f"first {first}, then {second}.")

        del same


def check_witness(backbone: nn.Module, prop: Property, point: Tensor, verdict: Verdict) -> None:
    """Check, exactly, that a witness lies in a ball of the property and breaks its body there."""
    if verdict.witness is None:
        raise ConformanceFailure(f"{prop!r} is FALSIFIED without a witness.")
    centre = exact_vector(point)
    witness = [Fraction(value) for value in verdict.witness]
    formula = prop.formula(Ranking.of(forward(backbone, centre)))
    require(
        breaks(formula, centre, witness, forward(backbone, witness)),
        f"the witness {list(map(str, witness))} breaks nothing of {prop!r} at {point.tolist()}: it "
        "lies outside of the balls, or the property holds there.",
    )


def breaks(
    formula: Formula,
    centre: Sequence[Fraction],
    witness: Sequence[Fraction],
    logits: Sequence[Fraction],
) -> bool:
    """Whether a point, with these logits, breaks some part of a formula around ``centre``.

    An empty AnyOf, which nothing can fulfil, is broken by whatever point.
    """
    match formula:
        case Throughout(ball, body):
            return in_ball(ball, centre, witness) and not formulas.holds_at(body, logits)
        case AllOf(parts) | AnyOf(parts):
            return formula == AnyOf(()) or any(
                breaks(part, centre, witness, logits) for part in parts
            )
        case _:
            return False


def with_twin_classes(backbone: nn.Sequential) -> nn.Sequential:
    """The network with the logit of class 1 replaced by that of class 0."""
    *before, last = list(backbone.children())
    if not isinstance(last, nn.Linear):
        raise ConformanceFailure(f"the backbone ends in {last}, expected nn.Linear.")
    twin = linear(last.weight.detach(), last.bias.detach())
    with torch.no_grad():
        twin.weight[1] = twin.weight[0]
        twin.bias[1] = twin.bias[0]
    return nn.Sequential(*before, twin).eval()


def linear(weight: object, bias: object) -> nn.Linear:
    """A float32 Linear layer with exactly these numbers."""
    rows, shift = torch.as_tensor(weight), torch.as_tensor(bias)
    layer = nn.Linear(rows.shape[1], rows.shape[0])
    with torch.no_grad():
        layer.weight.copy_(rows)
        layer.bias.copy_(shift)
    return layer.eval()


def as_tensor(point: Sequence[Fraction]) -> Tensor:
    """An exact point of few bits as float32, without rounding."""
    return torch.tensor([float(value) for value in point])


def shown(backbone: nn.Module) -> str:
    """Layers with their weights, for messages."""
    weights = {name: tensor.tolist() for name, tensor in backbone.state_dict().items()}
    return f"{backbone} with {weights}".replace("\n", " ")
