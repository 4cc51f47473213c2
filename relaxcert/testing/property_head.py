"""The compiled head of a property, on its own: exact links, no network.

Let f be the logits at x and d^1, d^2, ... what they change by at points x' of the ball. Then

    L[j, i] = f_j - f_i - max over m of |d^m_j - d^m_i|

are true links for these points, and all numbers are dyadic, so that float64 computes them exactly.
Whatever a head certifies from L must hold, by definition, at f + d^1, f + d^2, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from hypothesis import strategies as st

from relaxcert.heads.bottom import with_training_bottom
from relaxcert.heads.head import Head, LinksIn, Outcome, compile_property
from relaxcert.heads.links import EstimatedLinks, Links, ProvedLinks
from relaxcert.spec.ball import Ball
from relaxcert.spec.formula import lower_bound
from relaxcert.spec.prefix import PrefixProperty
from relaxcert.spec.ranking import Ranking
from relaxcert.testing.property_meaning import PropertyCase, leaves_of
from relaxcert.testing.running import for_all, require
from relaxcert.testing.strategies.scores import logits, swaps

Logits = tuple[Fraction, ...]


@dataclass(frozen=True)
class Moved:
    """Exact logits at x, (classes,), and their changes at some points of every ball."""

    centre: Logits
    changes: tuple[Logits, ...]

    def speed(self, j: int, i: int) -> Fraction:
        """How far f_j - f_i moves at most."""
        return max(abs(change[j] - change[i]) for change in self.changes)

    def link(self, ball: Ball, j: int, i: int) -> Fraction:
        """L[j, i]; the same for every ball."""
        del ball
        return self.centre[j] - self.centre[i] - self.speed(j, i)

    def logits_in(self, ball: Ball) -> list[Logits]:
        """The logits at the points, x among them."""
        del ball
        moved = [
            tuple(f + d for f, d in zip(self.centre, change, strict=True))
            for change in self.changes
        ]
        return [self.centre, *moved]

    def judged(self, head: Head, dtype: torch.dtype = torch.float64) -> Outcome:
        """What a head says, with eps P = 1 and D = the speeds."""
        places = range(len(self.centre))
        row = torch.tensor([list(map(float, self.centre))], dtype=dtype)
        pairs = [[float(self.speed(j, i)) for i in places] for j in places]
        return head(row, same_links(EstimatedLinks(row, torch.tensor(pairs, dtype=dtype), 1.0)))

    def proved(self, head: Head) -> Outcome:
        """What the head says as ``certify`` asks it: with proved links, and no other rounding."""
        places = range(len(self.centre))
        row = torch.tensor([list(map(float, self.centre))], dtype=torch.float64)
        pairs = torch.tensor([[float(self.speed(j, i)) for i in places] for j in places])
        exact = torch.zeros_like(row)
        return head(row, same_links(ProvedLinks(row, exact, exact[:, 0], pairs.double(), 1.0)))


def same_links(links: Links) -> LinksIn:
    """The same links for every ball."""

    def links_in(ball: Ball) -> Links:
        del ball
        return links

    return links_in


@st.composite
def moved_logits(draw: st.DrawFn, num_classes: int) -> Moved:
    """Logits, tied or not, with one to three changes: small ones, or neighbours change places."""
    centre = draw(logits(num_classes))
    eighth = st.integers(-6, 6).map(lambda n: Fraction(n, 8))
    small = st.lists(eighth, min_size=num_classes, max_size=num_classes).map(tuple)
    if draw(st.booleans()):
        points = draw(swaps(centre))
        changes = [tuple(a - b for a, b in zip(p, centre, strict=True)) for p in points]
    else:
        changes = draw(st.lists(small, min_size=1, max_size=3))
    return Moved(centre, tuple(changes))


class PropertyHead(PropertyCase):
    """Checks of the compiled head."""

    def head(self, case: Moved, dtype: torch.dtype = torch.float64) -> Outcome:
        """What the head says of one case."""
        return case.judged(compile_property(self.make_property(), self.classes), dtype)

    def test_what_the_head_certifies_holds_by_definition(self) -> None:
        """margin > 0 implies the property at every point that the links allow."""

        head = compile_property(self.make_property(), self.classes)

        @for_all(moved_logits(self.classes), share=0.6)
        def sound(case: Moved) -> None:
            for outcome in (case.judged(head), case.proved(head)):
                if bool(outcome.margin > 0):
                    require(
                        self.reference(case.centre, case.logits_in),
                        f"the head certifies {self.make_property()!r} with margin "
                        f"{float(outcome.margin)} at {case}, where it fails.",
                    )
                self._check_sets(case, outcome)

        del sound

    def test_the_head_is_as_strong_as_the_formula(self) -> None:
        """The head certifies exactly where the formula's lower bound is positive.

        Pointwise heads know more than the formula's clauses (transitivity) and may certify more.
        """
        prop = self.make_property()
        head = compile_property(prop, self.classes)
        uniform = all(
            leaf.quantifier == "uniform"
            for leaf in leaves_of(prop)
            if isinstance(leaf, PrefixProperty)
        )

        @for_all(moved_logits(self.classes), share=0.6)
        def strong(case: Moved) -> None:
            bound = lower_bound(prop.formula(Ranking.of(case.centre)), case.link)
            # All numbers are multiples of 1/8, so that proved links lose nothing that counts.
            for outcome in (case.judged(head), case.proved(head)):
                certified = bool(outcome.margin > 0)
                require(
                    certified == (bound > 0) if uniform else True,
                    f"at {case} the formula's bound is {bound}, but the head says {certified}.",
                )

        del strong

    def test_a_tie_at_a_boundary_lets_that_prefix_certify_nothing(self) -> None:
        """No movement at all, only ties: what the head certifies holds at x alone."""
        head = compile_property(self.make_property(), self.classes)

        @for_all(logits(self.classes), share=0.4)
        def untied(centre: Logits) -> None:
            case = Moved(centre, (tuple(Fraction(0) for _ in centre),))
            certified = any(bool(o.margin > 0) for o in (case.judged(head), case.proved(head)))
            holds = self.reference(centre, case.logits_in)
            require(
                holds or not certified,
                f"the head certifies {self.make_property()!r} at tied logits {centre}.",
            )

        del untied

    def test_renaming_the_classes_leaves_the_margin_as_it_is(self) -> None:
        """Label permutation equivariance of the head, where nothing is tied."""
        classes = self.classes

        @for_all(moved_logits(classes), st.permutations(range(classes)), share=0.3)
        def same(case: Moved, permutation: Sequence[int]) -> None:
            renamed = self.permuted(permutation)
            if renamed is None or len(set(case.centre)) < classes:
                return
            inverse = sorted(range(classes), key=permutation.__getitem__)
            other = Moved(
                tuple(case.centre[label] for label in inverse),
                tuple(tuple(change[label] for label in inverse) for change in case.changes),
            )
            after = other.judged(compile_property(renamed, classes)).margin
            require(
                bool(after == self.head(case).margin),
                f"renaming by {list(permutation)} changes the margin at {case}.",
            )

        del same

    def test_float32_agrees_where_numbers_are_exact(self) -> None:
        """The same margins in both precisions: the head itself rounds nothing away."""

        @for_all(moved_logits(self.classes), share=0.3)
        def agree(case: Moved) -> None:
            double, single = self.head(case), self.head(case, torch.float32)
            require(
                bool(double.margin == single.margin.double())
                and bool(double.loosest == single.loosest),
                f"float32 and float64 heads differ at {case}.",
            )

        del agree

    def test_losses_stay_finite_where_nothing_can_be_certified(self) -> None:
        """Bottom in train mode, and its gradient, are finite at ties and inadmissible rankings."""
        prop, classes = self.make_property(), self.classes
        head = compile_property(prop, classes)

        @for_all(logits(classes), share=0.3)
        def finite(centre: Logits) -> None:
            row = torch.tensor([list(map(float, centre))], requires_grad=True)
            speeds = 1.0 - torch.eye(classes)
            links = EstimatedLinks(row, speeds, 1.0)
            outputs = with_training_bottom(row, head(row, same_links(links)))
            loss = torch.nn.functional.cross_entropy(outputs, torch.tensor([0]))
            (gradient,) = torch.autograd.grad(loss, row)
            good = bool(outputs.isfinite().all()) and bool(gradient.isfinite().all())
            require(good, f"bottom or its gradient is not finite at logits {centre}.")

        del finite

    def _check_sets(self, case: Moved, outcome: Outcome) -> None:
        """A reported length k means: the set holds the k highest classes, by rank."""
        for length, members in (
            (int(outcome.loosest), outcome.sets[0]),
            (int(outcome.strictest), outcome.strictest_sets[0]),
        ):
            if length:
                inside = frozenset(int(label) for label in members.nonzero())
                require(
                    inside == Ranking.of(case.centre).top(length),
                    f"k = {length} is reported with the set {sorted(inside)} at {case}.",
                )
