"""The chain argument for the pointwise order, against every possible order of the classes.

A certificate depends on the signs of the links only (min and max commute with the sign), so all
sign patterns are enumerated: for up to five classes this is a proof, not a sample.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations, product

import pytest
import torch
from torch import Tensor

from relaxcert.heads import compile_property
from relaxcert.spec import Affinity, AffinitySets, RelaxedTopK
from tests.heads.checks import GivenLinks


@cache
def weak_orders(count: int) -> Tensor:
    """Levels of all orders with ties, (orders, count): the possible rankings at a point x'."""
    levels = torch.tensor(list(product(range(count), repeat=count)))
    dense = [row for row in levels if set(row.tolist()) == set(range(int(row.max()) + 1))]
    return torch.stack(dense)


def reaches(count: int) -> Tensor:
    """(orders, a, b): at x' class b reaches class a, so that a does not strictly beat b."""
    levels = weak_orders(count)
    return levels[:, None, :] >= levels[:, :, None]


def centre_logits(tied: tuple[int, ...], count: int) -> Tensor:
    """Descending logits in which the boundaries in ``tied`` (k = 1..) are equal."""
    drops = torch.tensor([0.0 if k in tied else 1.0 for k in range(1, count)])
    return torch.cat([torch.zeros(1), -drops.cumsum(0)])


def all_matrices(logits: Tensor) -> Tensor:
    """Every sign pattern of the links that the order at x permits; (patterns, count, count)."""
    count = len(logits)
    free = [(a, b) for a in range(count) for b in range(count) if logits[a] > logits[b]]
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=len(free))))
    matrices = -torch.ones(len(signs), count, count)
    for place, (a, b) in enumerate(free):
        matrices[:, a, b] = signs[:, place]
    return matrices


def realisable(matrices: Tensor) -> Tensor:
    """The patterns that bounds of one network can have: K_ac <= K_ab + K_bc, so that a proved over
    b and b over c give a proved over c."""
    proved = (matrices > 0).float()
    through = (proved @ proved) > 0
    return matrices[(~through | (proved > 0)).flatten(1).all(1)]


def violable(matrices: Tensor, ks: list[int]) -> Tensor:
    """Whether some order at x' agrees with all proved links and breaks every F^k, k in ``ks``."""
    count = matrices.shape[1]
    reach = reaches(count)
    broken = torch.ones(len(reach), dtype=torch.bool)
    for k in ks:
        broken &= reach[:, :k, k:].flatten(1).any(1)
    proved = (matrices > 0).flatten(1).float()
    conflicts = proved @ reach[broken].flatten(1).float().mT
    return (conflicts == 0).any(1)


def certified(prop, logits: Tensor, matrices: Tensor) -> Tensor:
    batch = logits.expand(len(matrices), -1).contiguous()
    links = GivenLinks(batch, matrices)
    return compile_property(prop, len(logits))(batch, lambda ball: links).margin > 0


def boundaries(count: int) -> list[tuple[int, ...]]:
    places = range(1, count)
    return [tied for size in range(count) for tied in combinations(places, size)]


@pytest.mark.parametrize("quantifier", ["uniform", "pointwise"])
@pytest.mark.parametrize("count", [3, 4, 5])
def test_no_sign_pattern_is_certified_that_some_order_violates(count, quantifier):
    """For every K and every pattern of ties at x."""
    for tied in boundaries(count):
        logits = centre_logits(tied, count)
        matrices = all_matrices(logits)
        for k in range(1, count):
            untied = [length for length in range(1, k + 1) if length not in tied]
            yes = certified(RelaxedTopK(k, eps=1, quantifier=quantifier), logits, matrices)
            if quantifier == "pointwise":
                wrong = yes & violable(matrices, untied)
            else:
                each = torch.stack(
                    [violable(matrices, [j]) for j in untied] or [yes.logical_or(~yes)]
                )
                wrong = yes & each.all(0)
            assert not bool(wrong.any()), (tied, k, matrices[wrong][0])


@pytest.mark.parametrize("count", [3, 4, 5])
def test_the_uniform_certificate_misses_nothing_where_nothing_is_tied(count):
    logits = centre_logits((), count)
    matrices = realisable(all_matrices(logits))
    for k in range(1, count):
        safe = torch.stack([~violable(matrices, [j]) for j in range(1, k + 1)]).any(0)
        assert torch.equal(certified(RelaxedTopK(k, eps=1), logits, matrices), safe)


@pytest.mark.parametrize("count", [4, 5])
def test_the_pointwise_certificate_certifies_more_than_the_uniform_one(count):
    logits = centre_logits((), count)
    matrices = all_matrices(logits)
    for k in range(2, count):
        loose = certified(RelaxedTopK(k, eps=1, quantifier="pointwise"), logits, matrices)
        strict = certified(RelaxedTopK(k, eps=1), logits, matrices)
        assert bool(loose[strict].all())
        assert int(loose.sum()) > int(strict.sum())


def test_what_the_pointwise_certificate_misses_is_known_and_small():
    """Incompleteness (links of a chain that contradict each other), kept from growing."""
    logits = centre_logits((), 5)
    matrices = realisable(all_matrices(logits))
    missed = {}
    for k in range(1, 5):
        safe = ~violable(matrices, list(range(1, k + 1)))
        yes = certified(RelaxedTopK(k, eps=1, quantifier="pointwise"), logits, matrices)
        assert bool(safe[yes].all())
        missed[k] = int((safe & ~yes).sum())
    known = {1: 0, 2: 0, 3: 8, 4: 18}  # of 109 and 159 safe patterns
    assert all(missed[k] <= known[k] for k in known), missed


@pytest.mark.parametrize("count", [4, 5])
def test_pointwise_affinity_relies_only_on_prefixes_inside_a_set(count):
    logits = centre_logits((), count)
    matrices = all_matrices(logits)
    for width in range(1, count):
        rest = list(range(width, count))
        sets = AffinitySets([list(range(width)), rest, [0, count - 1]], count)
        prop = Affinity(sets, eps=1, quantifier="pointwise")
        yes = certified(prop, logits, matrices)
        assert not bool((yes & violable(matrices, list(range(1, width + 1)))).any())
        assert bool(yes.any())


@pytest.mark.parametrize("quantifier", ["uniform", "pointwise"])
def test_permuting_the_classes_changes_no_margin(quantifier):
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(200, 5, generator=generator)
    matrices = torch.randn(200, 5, 5, generator=generator)
    order = torch.randperm(5, generator=generator)
    prop = RelaxedTopK(4, eps=1, quantifier=quantifier)
    head = compile_property(prop, 5)
    plain = head(logits, lambda ball: GivenLinks(logits, matrices))
    mixed_logits, mixed = logits[:, order], matrices[:, order][:, :, order]
    other = head(mixed_logits, lambda ball: GivenLinks(mixed_logits, mixed))
    assert torch.equal(plain.margin, other.margin)
    assert torch.equal(plain.sets[:, order], other.sets)
