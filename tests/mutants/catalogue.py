"""Seeded faults: one replaced piece of text each, and the tests that are asked first.

The text must stand in its file exactly once, so that a mutant that no longer fits the code is an
error and not a survivor.
"""

from __future__ import annotations

from dataclasses import dataclass

PROPERTY = "tests/testing/test_property_conformance.py"
RULES = "tests/testing/test_rule_conformance.py"
SHAPED = "tests/testing/test_shaped_rules.py"
BACKENDS = "tests/testing/test_backend_conformance.py"
NETWORKS = "tests/testing/test_network_conformance.py"


@dataclass(frozen=True)
class Mutant:
    """A fault: in ``file`` (inside the package) ``old`` becomes ``new``.

    ``suites`` are files of tests, each with an optional ``-k`` expression after a bar.
    """

    name: str
    file: str
    old: str
    new: str
    suites: tuple[str, ...]


SPEC = (PROPERTY,)
HEADS = (NETWORKS, PROPERTY)
LIPSCHITZ = (RULES, SHAPED, NETWORKS)
SMT = (f"{BACKENDS}|TestSolver",)
ATTACKS = (f"{BACKENDS}|TestAttack",)

MUTANTS = (
    # --- spec: what must hold ---------------------------------------------------------------
    Mutant(
        "a tie counts as beaten", "spec/formula.py",
        "return logits[winner] > logits[loser]", "return logits[winner] >= logits[loser]", SPEC,
    ),
    Mutant(
        "prefix compares k - 1 classes", "spec/formula.py",
        "inside, outside = ranking.order[:k], ranking.order[k:]",
        "inside, outside = ranking.order[: k - 1], ranking.order[k:]", SPEC,
    ),
    Mutant(
        "prefix forgets the next class", "spec/formula.py",
        "inside, outside = ranking.order[:k], ranking.order[k:]",
        "inside, outside = ranking.order[:k], ranking.order[k + 1 :]", SPEC,
    ),
    Mutant(
        "min for max in a clause", "spec/formula.py",
        "max((link(ball, atom.winner, atom.loser) for atom in clause), default=-inf)",
        "min((link(ball, atom.winner, atom.loser) for atom in clause), default=-inf)", SPEC,
    ),
    Mutant(
        "tied prefixes may serve", "spec/prefix.py",
        "            and k not in ranking.tied\n", "", SPEC,
    ),
    Mutant(
        "RTK stops one k early", "spec/prefix.py",
        "return range(1, self.k + 1)", "return range(1, max(2, self.k))", SPEC,
    ),
    Mutant(
        "quantifier orders swapped", "spec/prefix.py",
        'if self.quantifier == "uniform":', 'if self.quantifier != "uniform":', SPEC,
    ),
    Mutant(
        "k = number of classes is accepted", "spec/prefix.py",
        "if longest >= num_classes:", "if longest > num_classes:", SPEC,
    ),
    Mutant(
        "one member in the set is enough", "spec/affinity.py",
        "any(wanted.issubset(members) for members in self.sets)",
        "any(wanted.intersection(members) for members in self.sets)", SPEC,
    ),
    Mutant(
        "transposed pair in Targeted", "spec/targeted.py",
        "AnyOf(tuple(Beats(j, i) for j in allowed))",
        "AnyOf(tuple(Beats(i, j) for j in allowed))", SPEC,
    ),
    Mutant(
        "Targeted at a tied top", "spec/targeted.py",
        "if 1 in ranking.tied:", "if 1 in ranking.tied and 2 in ranking.tied:", SPEC,
    ),
    Mutant(
        "and becomes or", "spec/property.py",
        "return AllOf(tuple(member.formula(ranking) for member in self.members))",
        "return AnyOf(tuple(member.formula(ranking) for member in self.members))", SPEC,
    ),
    Mutant(
        "with_eps keeps the radius", "spec/property.py",
        'object.__setattr__(clone, "ball", ball)', "del ball", SPEC,
    ),
    Mutant(
        "the first boundary is never tied", "spec/ranking.py",
        "exact[order[k - 1]] == exact[order[k]]",
        "k > 1 and exact[order[k - 1]] == exact[order[k]]", SPEC,
    ),
    # --- heads: property x bound -> verdict -------------------------------------------------
    Mutant(
        "only the top class must stay", "heads/prefix.py",
        "ranked[:, :k, k:].amin((1, 2))", "ranked[:, :1, k:].amin((1, 2))", HEADS,
    ),
    Mutant(
        "off by one in k", "heads/prefix.py",
        "for k in range(1, depth + 1)], dim=1)\n\n\ndef crossings",
        "for k in [min(k + 1, depth) for k in range(1, depth + 1)]], dim=1)\n\n\ndef crossings",
        HEADS,
    ),
    Mutant(
        "strongest chain for weakest", "heads/prefix.py",
        "best = torch.minimum(best, torch.maximum(margin, overlapping))",
        "best = torch.maximum(best, torch.maximum(margin, overlapping))", HEADS,
    ),
    Mutant(
        "one class outside the set is let in", "heads/prefix_head.py",
        "transpose(0, 1).cumsum(2) == 0", "transpose(0, 1).cumsum(2) <= 1", HEADS,
    ),
    Mutant(
        "top and rest told apart by value", "heads/ranked.py",
        "    rest = rows.scatter_(2, places, math.inf).amin(2, keepdim=True)\n",
        "    rest = rows.masked_fill((rows[..., None] == inside[:, :, None, :]).any(3), math.inf)"
        ".amin(2, keepdim=True)\n", HEADS,
    ),
    Mutant(
        "Targeted asks for all, then any", "heads/head.py",
        "        best = links.rows(rows).amax(1)\n", "        best = links.rows(rows).amin(1)\n",
        HEADS,
    ),
    Mutant(
        "Targeted trusts a tied prediction", "heads/head.py",
        "predicted, math.inf).amin(1)\n        return torch.where(lead > 0, margin,",
        "predicted, math.inf).amin(1)\n        return torch.where(lead > -1, margin,", HEADS,
    ),
    Mutant(
        "missing eps", "heads/links.py",
        "return self._ranked(top, self.error + self.reach)", "return self._ranked(top, self.error)",
        HEADS,
    ),
    Mutant(
        "nine tenths of eps", "heads/certify.py",
        "multiply_up(fraction_up(ball.eps), proved.product)",
        "multiply_up(0.9 * fraction_up(ball.eps), proved.product)", HEADS,
    ),
    Mutant(
        "the Lipschitz bound is left out", "heads/certify.py",
        "multiply_up(fraction_up(ball.eps), proved.product)", "fraction_up(ball.eps)", HEADS,
    ),
    Mutant(
        "bounds of another norm", "heads/certify.py",
        "        proved = bounds.norms[ball.norm]\n",
        "        proved = next(iter(bounds.norms.values()))\n", HEADS,
    ),
    Mutant(
        "bottom ties with the top", "heads/bottom.py",
        "return tensor_up(logits.amax(1) - margin)", "return logits.amax(1) - margin",
        (*HEADS, "tests/heads/test_edge_cases.py"),
    ),
    Mutant(
        "the radius forgets the bound", "heads/links.py",
        "radius = tensor_down(tensor_down(ratio) / self.product)", "radius = tensor_down(ratio)",
        HEADS,
    ),
    # --- lipschitz: how far the logits can move ---------------------------------------------
    Mutant(
        "power estimate for verified", "lipschitz/rules.py",
        "return Bound(induced_norm(weight, norm), _METHODS[norm])",
        "return Bound(induced_norm(weight, norm) if norm != 'l2' else float("
        "spectral_norm_estimate(weight, initial_iterate(weight.shape[1]).double())[0]), 'x')",
        LIPSCHITZ,
    ),
    Mutant(
        "singular value without a proof", "lipschitz/spectral.py",
        "squared = min(_squared_elementary_bound(tall), _squared_by_cholesky(tall))",
        "squared = float(torch.linalg.matrix_norm(tall, 2)) ** 2 * (1.0 - 1e-15)", LIPSCHITZ,
    ),
    Mutant(
        "row sums for column sums", "lipschitz/matrix.py",
        'return _absolute_sum(matrix, 1 if norm == "linf" else 0)',
        'return _absolute_sum(matrix, 0 if norm == "linf" else 1)', LIPSCHITZ,
    ),
    Mutant(
        "row distances not in the dual norm", "lipschitz/matrix.py",
        "    order = DUAL_ORDER[norm]\n", "    order = ORDER[norm]\n", LIPSCHITZ,
    ),
    Mutant(
        "a sum bounded by its larger part", "lipschitz/propagation.py",
        "Rounding(operations=1, output_gain=1.0), add_up(*totals))",
        "Rounding(operations=1, output_gain=1.0), max(totals))", LIPSCHITZ,
    ),
    Mutant(
        "a concatenation bounded by its larger part", "lipschitz/propagation.py",
        "NodeBound(joined, Rounding(), joined_up(totals, norm))",
        "NodeBound(joined, Rounding(), max(totals))", LIPSCHITZ,
    ),
    Mutant(
        "stale bounds", "lipschitz/snapshot.py",
        "_same(one, other) for one, other in zip(present, kept, strict=True)",
        "one.shape == other.shape for one, other in zip(present, kept, strict=True)", LIPSCHITZ,
    ),
    Mutant(
        "the last layer rounds nothing", "lipschitz/forward.py",
        "        return Forward(logits, _slack(features.value, bounds.last), error)",
        "        return Forward(logits, 0 * _slack(features.value, bounds.last), error)",
        (*LIPSCHITZ, "tests/heads/test_forward.py"),
    ),
    Mutant(
        "dropped rounding term of Linear", "lipschitz/rules.py",
        "input_gain=absolute_norm(weight, norm),", "input_gain=0.0,", LIPSCHITZ,
    ),
    Mutant(
        "largest std for smallest", "lipschitz/rules.py",
        "float(tensor_up(1.0 / std).max())", "float(tensor_up(1.0 / std).min())", LIPSCHITZ,
    ),
    Mutant(
        "overlapping windows are not counted", "lipschitz/rules_pooling.py",
        "[-(-k // (s // math.gcd(s, d))) for", "[k // (s // math.gcd(s, d)) for",
        (*LIPSCHITZ, "tests/lipschitz/test_random_layers.py"),
    ),
    Mutant(
        "wrong padding condition of the torus", "lipschitz/convolution_symbol.py",
        "length = max(n, n + left, s * (outputs - 1) + conv.extent[dim] - left, s * outputs)",
        "length = n", (*LIPSCHITZ, "tests/lipschitz/test_convolution_symbol.py"),
    ),
    Mutant(
        "batch-norm divides by the variance", "lipschitz/rules_normalisation.py",
        "scale = 1.0 / (variance + layer.eps).sqrt()", "scale = 1.0 / (variance + layer.eps)",
        LIPSCHITZ,
    ),
    Mutant(
        "a small slope of SiLU", "lipschitz/rules_activation.py",
        "SILU_CONSTANT = 1.0998393201288672", "SILU_CONSTANT = 1.0", LIPSCHITZ,
    ),
    Mutant(
        "the gradient is cut at the wrong factor", "lipschitz/power.py",
        "return torch.dot(unit_vector(image.detach()), image), vector",
        "return torch.dot(unit_vector(image), image.detach()), vector", LIPSCHITZ,
    ),
    # --- smt: the solver as a judge ---------------------------------------------------------
    Mutant(
        "transposed pair in the query", "smt/formula.py",
        "return reaches(loser, winner)", "return reaches(winner, loser)", SMT,
    ),
    Mutant(
        "a tie does not count as a violation", "smt/formula.py",
        "return constraint.value(logits) - spread >= 0",
        "return constraint.value(logits) - spread > 0", SMT,
    ),
    Mutant(
        "violations of an AND must all hold", "smt/formula.py",
        "return some(violation_of(part) for part in parts)",
        "return every(violation_of(part) for part in parts)", SMT,
    ),
    Mutant(
        "half of the ball is searched", "smt/query.py",
        "upper = tuple(value + ball.eps for value in exact)",
        "upper = tuple(value for value in exact)", SMT,
    ),
    Mutant(
        "out of boxes counts as proved", "smt/branch.py",
        "answer = self._ask(boxes, bounds, place, divisible=bool(wide[place]))",
        "continue", (*SMT, "tests/smt/test_spike.py"),
    ),
    # --- attacks ----------------------------------------------------------------------------
    Mutant(
        "the attack counts near misses", "attacks/scene.py",
        "(1.0 - 1e-12) + doubt < 0.0)", "(1.0 - 1e-12) - 1.0 < 0.0)", ATTACKS,
    ),
)  # fmt: skip
