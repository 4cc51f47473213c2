"""The checker's own mathematics against exact references that share nothing with it."""

from __future__ import annotations

import base64
import json
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from flint import arb, ctx, fmpq
from hypothesis import given
from hypothesis import strategies as st

from relaxcert import checker
from relaxcert.checker.bounds import check_bound, distances_of, matrix_of
from relaxcert.checker.model import read_model
from relaxcert.checker.network import logits_of, steps_of
from relaxcert.checker.property import check_property, evaluate
from relaxcert.heads import GloRoNet
from relaxcert.heads.model_file import save_model
from relaxcert.proofs.witness import spectral_witness
from relaxcert.spec import Local, Property, Ranking, canonical_json
from relaxcert.spec.formula import AllOf, AnyOf, Throughout, holds_at, lower_bound
from tests.lipschitz import exact
from tests.networks import every_kind, randn, random_backbone

CLASSES = 4
tables = st.lists(
    st.lists(st.integers(-3, 3), min_size=CLASSES, max_size=CLASSES),
    min_size=CLASSES,
    max_size=CLASSES,
)


def margin_of(prop: Property, logits: list[int], table: list[list[int]]) -> Fraction | float:
    """What the checker finds if f_j - f_i is at least ``table[j][i]`` on the ball."""

    def link(norm, radius, winner, loser):
        return arb(logits[winner] - logits[loser] if radius == 0 else table[winner][loser])

    found = evaluate(json.loads(canonical_json(prop)), [arb(v) for v in logits], link, None)
    return float(found.margin)


def consistent(logits: list[int], table: list[list[int]]) -> list[list[int]]:
    """A bound on the ball is at most the value at its centre."""
    return [
        [min(value, logits[j] - logits[i]) for i, value in enumerate(row)]
        for j, row in enumerate(table)
    ]


@given(st.lists(st.integers(0, 4), min_size=CLASSES, max_size=CLASSES), tables)
def test_margins_are_those_of_the_formula(logits, table):
    """Uniform and targeted properties: exactly; the formula is multiplied out, slowly."""
    table = consistent(logits, table)
    for prop in every_kind(CLASSES):
        if getattr(prop, "quantifier", "uniform") == "pointwise":
            continue
        formula = prop.formula(Ranking.of([Fraction(v) for v in logits]))
        reference = lower_bound(formula, lambda ball, j, i: table[j][i])
        found = margin_of(prop, logits, table)
        # A tie takes parts out of the formula; the checker finds them not positive.
        assert found == reference or (max(found, reference) <= 0 and len(set(logits)) < CLASSES)


@given(st.permutations(range(CLASSES)), tables)
def test_no_order_of_the_logits_that_the_links_permit_breaks_a_proved_property(logits, table):
    """Pointwise properties, by brute force over all values of x' that the links permit."""
    table = consistent(logits, table)
    for prop in every_kind(CLASSES):
        if getattr(prop, "quantifier", "uniform") != "pointwise":
            continue
        if margin_of(prop, logits, table) <= 0:
            continue
        formula = prop.formula(Ranking.of([Fraction(v) for v in logits]))
        for values in product(range(CLASSES), repeat=CLASSES):
            permitted = all(
                table[j][i] <= 0 or values[j] > values[i]
                for j in range(CLASSES)
                for i in range(CLASSES)
            )
            if permitted:
                assert holds_at(_body(formula), [Fraction(v) for v in values])


def _body(formula):
    if isinstance(formula, Throughout):
        return formula.body
    kind = AllOf if isinstance(formula, AllOf) else AnyOf
    return kind(tuple(_body(part) for part in formula.parts))


def test_some_pointwise_property_is_proved_where_no_single_k_is():
    """Neighbours may change places, but if all did, the first would be below the third."""
    uniform, pointwise = every_kind(CLASSES)[3:5]
    table = [[0, -1, 1, 1], [-1, 0, -1, 1], [-1, -1, 0, -1], [-1, -1, -1, 0]]
    assert margin_of(uniform, [6, 4, 2, 0], table) == -1
    assert margin_of(pointwise, [6, 4, 2, 0], table) == 1
    table[0][2] = table[1][3] = -1
    assert margin_of(pointwise, [6, 4, 2, 0], table) == -1


@pytest.mark.parametrize("seed", range(4))
def test_logits_contain_the_exact_ones(seed, tmp_path):
    backbone = random_backbone(
        seed,
        activation=torch.nn.ReLU if seed % 2 else type(random_backbone(0)[2]),
        normalise=seed > 1,
        dtype=torch.float64 if seed == 3 else torch.float32,
    )
    path = save_model(GloRoNet(backbone, Local(eps=1)), tmp_path / "m.safetensors")
    inputs = randn(seed + 50, 5, 4)
    with ctx.workprec(192):
        model = read_model(path)
        rows = logits_of(steps_of(model.architecture, model.tensors, (4,))[0], inputs.numpy())
        for row, point in zip(rows, inputs, strict=True):
            truth = exact.forward(backbone, exact.exact_vector(point))
            for ball, value in zip(row, truth, strict=True):
                with ctx.workprec(4000):  # dyadic, so exact
                    point_ball = arb(fmpq(value.numerator, value.denominator))
                assert point_ball.is_exact()
                assert ball.contains(point_ball)
                assert float(ball.rad()) < 1e-40


def claimed(bound: float, exponent: int, packed: bytes | None) -> dict:
    factor = None if packed is None else base64.b64encode(packed).decode()
    return {"bound": bound, "exponent": exponent, "factor": factor}


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (5, 2), (2, 5), (12, 12)])
@pytest.mark.parametrize("share", [1e-4, 1e-8, 1e-9, 1e-10, 1e-14, 0.0, -1e-14, -1e-9, -0.1])
def test_a_bound_is_accepted_only_if_it_is_one(shape, share):
    """Around the norm, with the best witness there is; from 1e-9 above it on, always accepted."""
    weight = randn(7, *shape)
    norm = float(torch.linalg.matrix_norm(weight, 2))
    bound = norm * (1.0 + share)
    factor = spectral_witness(weight, bound)
    claim = claimed(bound, 0 if factor is None else factor.exponent, factor and factor.packed())
    accepted = True
    try:
        with ctx.workprec(192):
            check_bound(matrix_of(weight.numpy()), claim, "l2", "0")
    except checker.Rejected:
        accepted = False
    if accepted:
        assert exact.at_least_spectral_norm(bound, weight)
    assert accepted or share < 1e-9
    assert not (accepted and share <= -1e-9)


@given(st.integers(0, 2**63))
def test_no_random_witness_proves_a_bound_below_the_norm(seed):
    weight = np.array([[3.0, 0.0], [4.0, 0.0], [0.0, 1.0]])
    generator = np.random.default_rng(seed)
    scale = generator.choice([1e-9, 1e-3, 1.0, 5.0])
    packed = (generator.standard_normal(3) * scale).astype("<f8").tobytes()
    claim = claimed(5.0 * (1 - 2**-50), int(generator.integers(-3, 4)), packed)
    with ctx.workprec(192), pytest.raises(checker.Rejected, match="not proved"):
        check_bound(matrix_of(weight), claim, "l2", "0")


def test_distances_of_rows_in_the_dual_norms():
    rows = np.array([[1.0, 2.0], [4.0, -2.0], [1.0, 2.0]])
    last = matrix_of(rows)
    for norm, distance in (("l2", 5), ("linf", 7), ("l1", 4)):
        found = distances_of(last, norm)
        assert [float(v) for v in found[0]] == [0, distance, 0]
        assert found[1][0].contains(distance)
        assert bool(found[0][2] == 0)
    # The rows of a diagonal map: those of diag(3, -4) differ by (3, 4).
    diagonal = [arb(3), arb(-4)]
    assert [float(distances_of(diagonal, n)[0][1]) for n in ("l2", "linf", "l1")] == [5, 7, 4]


@pytest.mark.parametrize(
    "prop",
    [
        {"kind": "local", "eps": "1/2", "norm": "l3"},
        {"kind": "local", "eps": "2/4", "norm": "l2"},
        {"kind": "local", "eps": "0/1", "norm": "l2"},
        {"kind": "local", "eps": "-1/2", "norm": "l2"},
        {"kind": "local", "eps": "1/0", "norm": "l2"},
        {"kind": "local", "eps": 0.5, "norm": "l2"},
        {"kind": "local", "eps": "1/2", "norm": "l2", "k": 1},
        {"kind": "top-k", "eps": "1/2", "norm": "l2", "k": 4},
        {"kind": "top-k", "eps": "1/2", "norm": "l2", "k": True},
        {"kind": "relaxed-top-k", "eps": "1/2", "norm": "l2", "k": 2, "quantifier": "some"},
        {"kind": "affinity", "eps": "1/2", "norm": "l2", "quantifier": "uniform",
         "num_classes": 4, "sets": [[0, 1, 2, 3]]},
        {"kind": "affinity", "eps": "1/2", "norm": "l2", "quantifier": "uniform",
         "num_classes": 5, "sets": [[0, 1]]},
        {"kind": "affinity", "eps": "1/2", "norm": "l2", "quantifier": "uniform",
         "num_classes": 4, "sets": [[0, 4]]},
        {"kind": "affinity", "eps": "1/2", "norm": "l2", "quantifier": "uniform",
         "num_classes": 4, "sets": "01"},
        {"kind": "targeted", "eps": "1/2", "norm": "l2", "allowed": [[0], [1], [2], [0]]},
        {"kind": "targeted", "eps": "1/2", "norm": "l2", "allowed": [[0], [1], [2]]},
        {"kind": "targeted", "eps": "1/2", "norm": "l2",
         "allowed": [[0, 1, 2, 3], [1], [2], [3]]},
        {"kind": "all", "parts": []},
        {"kind": "any", "parts": [{"kind": "local", "eps": "1/2", "norm": "l2", "k": 1}]},
    ],
    ids=str,
)  # fmt: skip
def test_properties_that_are_vacuous_or_malformed_are_rejected(prop):
    with pytest.raises(checker.Rejected, match="property"):
        check_property(prop, CLASSES)


def test_properties_of_every_kind_are_read():
    for prop in every_kind(CLASSES):
        check_property(json.loads(canonical_json(prop)), CLASSES)
