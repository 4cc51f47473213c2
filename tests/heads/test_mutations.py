"""Seeded mutations: each mistake, put into the real code, is found by a check that regular tests
use; and the unchanged code passes it."""

from __future__ import annotations

import inspect
import textwrap

import torch

from relaxcert.heads import certify as certify_module
from relaxcert.heads import head as head_module
from relaxcert.lipschitz import rules, verified
from relaxcert.lipschitz.power import initial_iterate, spectral_norm_estimate
from tests.heads import checks


def mutated(function, old: str, new: str, **names):
    """The function, compiled again from its source with one piece of text replaced."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{old!r} is not once in {function.__name__}"
    space = {**function.__globals__, **names}
    exec(compile(source.replace(old, new), "<mutant>", "exec"), space)
    return space[function.__name__]


def test_at_least_zero_in_place_of_above_zero_in_the_certificate_is_found(monkeypatch):
    assert checks.certified_ties() == []
    mutant = mutated(certify_module.assemble, "outcome.margin > 0", "outcome.margin >= 0")
    monkeypatch.setattr(certify_module, "assemble", mutant)
    assert checks.certified_ties() == ["top-1: certified", "top-2: certified"]


def test_at_least_zero_in_place_of_above_zero_in_the_head_is_found(monkeypatch):
    assert checks.certified_ties() == []
    mutant = mutated(head_module.PrefixHead.forward, "uniform > 0", "uniform >= 0")
    monkeypatch.setattr(head_module.PrefixHead, "forward", mutant)
    assert len(checks.certified_ties()) == 2


def test_masking_by_value_in_place_of_index_is_found(monkeypatch):
    """The mask of the paper's library: whatever equals a top logit counts as top."""
    assert checks.certified_tied_points() == []

    def by_value(links, top):
        highest = links.logits.gather(1, top)
        equal = (links.logits[:, :, None] == highest[:, None, :]).any(2)
        rows = links.rows(top)
        inside = rows.gather(2, top[:, None, :].expand(-1, top.shape[1], -1))
        rest = rows.masked_fill(equal[:, None, :], torch.inf).amin(2, keepdim=True)
        return torch.cat((inside, rest), dim=2)

    mutant = mutated(
        head_module.PrefixHead._search,
        "links.ranked(top)",
        "by_value(links, top)",
        by_value=by_value,
    )
    monkeypatch.setattr(head_module.PrefixHead, "_search", mutant)
    assert len(checks.certified_tied_points()) == 4


def test_two_power_iterations_in_place_of_the_verified_bound_are_found(monkeypatch):
    assert checks.certificates_beyond_a_known_flip() == []
    original = rules.induced_norm

    def estimated(matrix, norm):
        if norm != "l2":
            return original(matrix, norm)
        start = initial_iterate(matrix.shape[1]).double()
        return float(spectral_norm_estimate(matrix, start, 2)[0])

    monkeypatch.setattr(rules, "induced_norm", estimated)
    found = checks.certificates_beyond_a_known_flip()
    assert len(found) == 1
    assert found[0].startswith("certified at")


def test_forgetting_one_direction_of_the_pair_constants_is_found(monkeypatch):
    assert checks.refuted_on_linear_networks() == []
    original = verified.pair_distances
    monkeypatch.setattr(
        verified, "pair_distances", lambda weight, norm: torch.triu(original(weight, norm))
    )
    assert len(checks.refuted_on_linear_networks()) > 10
