"""The heads against equations 1, 4 and 5, transcribed, and against the formula layer."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxcert.heads import compile_property
from relaxcert.heads.bottom import with_training_bottom
from relaxcert.heads.links import EstimatedLinks
from relaxcert.spec import (
    Affinity,
    AffinitySets,
    Conjunction,
    Disjunction,
    Local,
    Property,
    RelaxedTopK,
    Targeted,
    TopK,
)
from relaxcert.spec.formula import lower_bound
from relaxcert.spec.prefix import PrefixProperty
from relaxcert.spec.ranking import Ranking
from tests.heads import transcription
from tests.strategies import affinity_sets, targeted

EPS = Fraction(1, 2)


@dataclass(frozen=True)
class Case:
    """Dyadic numbers throughout, so that float64 computes them without rounding."""

    prop: Property
    logits: tuple[Fraction, ...]
    pairs: tuple[tuple[Fraction, ...], ...]

    def link(self, ball, j: int, i: int) -> Fraction:
        return self.logits[j] - self.logits[i] - ball.eps * self.pairs[j][i]

    def outcome(self):
        logits = torch.tensor([list(map(float, self.logits))], dtype=torch.float64)
        pairs = torch.tensor([list(map(float, row)) for row in self.pairs], dtype=torch.float64)
        head = compile_property(self.prop, len(self.logits))
        return logits, head(logits, lambda ball: EstimatedLinks(logits, pairs, float(ball.eps)))

    def transcribed(self, prop: Property | None = None) -> Fraction:
        prop = self.prop if prop is None else prop
        data = (self.logits, EPS, self.pairs)
        match prop:
            case Local():
                return transcription.m_rtk(*data, [1])
            case TopK(k=k):
                return transcription.m_rtk(*data, [k])
            case RelaxedTopK(k=k):
                return transcription.m_rtk(*data, range(1, k + 1))
            case Affinity(sets=sets):
                return transcription.m_affinity(*data, sets.sets)
            case Targeted(allowed=allowed):
                return transcription.m_targeted(*data, allowed)
            case Conjunction():
                return min(map(self.transcribed, prop.parts))
            case Disjunction():
                return max(map(self.transcribed, prop.parts))


@st.composite
def simple(draw, count: int, quantifier: str = "uniform") -> Property:
    k = draw(st.integers(1, count - 1))
    match draw(st.sampled_from(["local", "top", "rtk", "affinity", "targeted"])):
        case "local":
            return Local(eps=EPS)
        case "top":
            return TopK(k, eps=EPS)
        case "rtk":
            return RelaxedTopK(k, eps=EPS, quantifier=quantifier)
        case "affinity":
            sets = draw(affinity_sets(count, covered=False))
            return Affinity(sets, eps=EPS, quantifier=quantifier)
        case _:
            return Targeted(draw(targeted(count)).allowed, eps=EPS)


eighths = st.integers(0, 40).map(lambda n: Fraction(n, 8))


@st.composite
def cases(draw, *, ties: bool, quantifier: str = "uniform"):
    count = draw(st.integers(3, 6))
    value = st.integers(0, 4).map(Fraction) if ties else eighths
    logits = draw(st.lists(value, min_size=count, max_size=count, unique=not ties))
    entry = st.integers(0, 8 if ties else 20).map(lambda n: Fraction(n, 8))
    row = st.lists(entry, min_size=count, max_size=count)
    pairs = draw(st.lists(row, min_size=count, max_size=count))
    parts = draw(st.lists(simple(count, quantifier), min_size=1, max_size=3))
    join = draw(st.sampled_from([Conjunction, Disjunction]))
    prop = parts[0] if len(parts) == 1 else join(*parts)
    return Case(prop, tuple(logits), tuple(map(tuple, pairs)))


@given(cases(ties=False))
@settings(max_examples=120)
def test_heads_compute_equations_1_and_4_exactly_where_nothing_is_tied(case):
    _, outcome = case.outcome()
    wanted = case.transcribed()
    if wanted == transcription.NEVER:
        assert outcome.margin.item() == -torch.inf
    else:
        assert Fraction(outcome.margin.item()) == wanted


@given(cases(ties=True))
@settings(max_examples=120)
def test_heads_certify_exactly_what_equations_1_and_4_do_where_much_is_tied(case):
    _, outcome = case.outcome()
    wanted = case.transcribed()
    assert (outcome.margin.item() > 0) == (wanted > 0)
    if wanted > 0:
        assert Fraction(outcome.margin.item()) == wanted


@given(cases(ties=False))
@settings(max_examples=120)
def test_bottom_in_train_mode_is_equation_1_and_5_and_finite_where_no_k_may_serve(case):
    logits, outcome = case.outcome()
    bottom = with_training_bottom(logits, outcome)[0, -1].item()
    wanted = case.transcribed()
    if wanted > -(10**6):
        assert Fraction(bottom) == transcription.g_bottom(case.logits, wanted)
    else:
        assert bottom < torch.inf
        assert bottom >= float(max(case.logits))


@given(cases(ties=True))
@settings(max_examples=120)
def test_reported_sets_are_the_largest_and_smallest_certified_prefixes(case):
    if not isinstance(case.prop, PrefixProperty):
        return
    _, outcome = case.outcome()
    admitted = [
        k
        for k in case.prop.admissible(Ranking.of(case.logits))
        if transcription.m_k(case.logits, EPS, case.pairs, k) > 0
    ]
    assert outcome.loosest.item() == max(admitted, default=0)
    assert outcome.strictest.item() == min(admitted, default=0)
    for k, mask in ((outcome.loosest, outcome.sets), (outcome.strictest, outcome.strictest_sets)):
        members = set(torch.nonzero(mask[0]).flatten().tolist())
        assert members == (transcription.top(case.logits, k.item()) if k.item() else set())


@given(cases(ties=False))
@settings(max_examples=120)
def test_heads_agree_with_the_formula_for_uniform_properties(case):
    _, outcome = case.outcome()
    wanted = lower_bound(case.prop.formula(Ranking.of(case.logits)), case.link)
    assert outcome.margin.item() == wanted


@given(cases(ties=True))
@settings(max_examples=120)
def test_heads_certify_what_the_formula_certifies_where_much_is_tied(case):
    _, outcome = case.outcome()
    wanted = lower_bound(case.prop.formula(Ranking.of(case.logits)), case.link)
    assert (outcome.margin.item() > 0) == (wanted > 0)


@given(cases(ties=False, quantifier="pointwise"))
@settings(max_examples=120)
def test_the_chain_margin_is_at_least_that_of_the_formula_for_pointwise_properties(case):
    _, outcome = case.outcome()
    assert outcome.margin.item() >= lower_bound(
        case.prop.formula(Ranking.of(case.logits)), case.link
    )


@given(cases(ties=True, quantifier="pointwise"))
@settings(max_examples=120)
def test_uniform_implies_pointwise_also_where_much_is_tied(case):
    if not isinstance(case.prop, RelaxedTopK | Affinity):
        return
    _, pointwise = case.outcome()
    same = {"sets": case.prop.sets} if isinstance(case.prop, Affinity) else {"k": case.prop.k}
    uniform = type(case.prop)(**same, eps=EPS)
    _, outcome = Case(uniform, case.logits, case.pairs).outcome()
    assert pointwise.margin.item() >= outcome.margin.item()
    assert pointwise.loosest.item() == outcome.loosest.item()


@pytest.mark.parametrize("count", [4, 6])
def test_rtk_is_the_disjunction_of_top_1_to_top_k_in_verdict_and_margin(count):
    generator = torch.Generator().manual_seed(count)
    logits = torch.randint(0, 12, (200, count), generator=generator) / 4
    pairs = torch.randint(0, 8, (count, count), generator=generator) / 4
    links = EstimatedLinks(logits, pairs, 0.5)
    whole = compile_property(RelaxedTopK(3, eps=EPS), count)(logits, lambda ball: links)
    parts = TopK(1, eps=EPS) | TopK(2, eps=EPS) | TopK(3, eps=EPS)
    joined = compile_property(parts, count)(logits, lambda ball: links)
    assert torch.equal(whole.margin, joined.margin)
    assert torch.equal(whole.loosest, joined.loosest)
    assert torch.equal(whole.strictest, joined.strictest)
    assert torch.equal(whole.sets, joined.sets)
    assert torch.equal(whole.strictest_sets, joined.strictest_sets)
    assert bool((whole.margin > 0).any())


def test_adjacent_affinity_implies_targeted_neighbours():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randint(0, 16, (500, 5), generator=generator) / 4
    links = EstimatedLinks(logits, torch.ones(5, 5) / 2, 0.5)
    order = [3, 1, 0, 2, 4]
    affinity = Affinity(AffinitySets.adjacent(order), eps=EPS)
    neighbours = Targeted.neighbours(order, eps=EPS)
    strong, weak = (
        compile_property(prop, 5)(logits, lambda ball: links).margin > 0
        for prop in (affinity, neighbours)
    )
    tied = logits.topk(2).values.diff().squeeze(1) == 0
    assert bool((weak | tied)[strong].all())
    assert int((weak & ~strong).sum()) > 0
