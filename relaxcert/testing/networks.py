"""NetworkConformance: the checks of one network with one property, on given points.

It is what ``pytest --pyargs relaxcert.checks`` runs; in a test file of your own:

    class TestMine(NetworkConformance):
        @pytest.fixture
        def certified_network(self):
            return GloRoNet(my_backbone, my_property)

        @pytest.fixture
        def relaxcert_points(self):
            return torch.rand(200, 36)
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import pytest
import torch
from torch import Tensor

from relaxcert.errors import RelaxcertError, UnsupportedLayer
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.testing import audit_bounds, audit_certificates
from relaxcert.testing.audit_points import just_certified
from relaxcert.testing.exact import exact_vector
from relaxcert.testing.profiles import Effort
from relaxcert.testing.recording import CheckRecord
from relaxcert.testing.running import BrokenCertificate, require

# The last telling points of a network, which take a while to find.
_TELLING: WeakKeyDictionary[GloRoNet, tuple[tuple[Tensor, Effort], Tensor]] = WeakKeyDictionary()


class NetworkConformance:
    """The suite of a network. Fixtures: ``certified_network``, ``relaxcert_points``.

    The points are (batch, ...), finite or not. Most checks use them and points made from them that
    are only just certified, where a bound that is a little too small shows first.
    """

    @pytest.fixture
    def telling_points(
        self, certified_network: GloRoNet, relaxcert_points: Tensor, relaxcert_effort: Effort
    ) -> Tensor:
        """Some of the finite points, and points that are only just certified, float64."""
        key = (relaxcert_points, relaxcert_effort)
        kept = _TELLING.get(certified_network)
        if kept is not None and kept[0][0] is key[0] and kept[0][1] == key[1]:
            return kept[1]
        finite = relaxcert_points[relaxcert_points.isfinite().flatten(1).all(1)]
        require(len(finite), "no point of the data is finite.")
        some = finite[: relaxcert_effort.points].double()
        edge = just_certified(certified_network, some, count=relaxcert_effort.edges)
        found = torch.cat([edge, some])
        _TELLING[certified_network] = (key, found)
        return found

    def test_points_are_certified_and_rejected(
        self, certified_network: GloRoNet, relaxcert_points: Tensor, relaxcert_check: CheckRecord
    ) -> None:
        """Counts for the report; a point that is not finite must be rejected."""
        certificates = certified_network.certify(relaxcert_points)
        finite = relaxcert_points.isfinite().flatten(1).all(1)
        certified = certificates.certified.cpu()
        relaxcert_check(
            points=len(certified),
            certified=int(certified.sum()),
            rejected=int((~certified).sum()),
            checked=f"{len(certified)} points",
        )
        require(not bool((certified & ~finite).any()), "a point that is not finite is certified.")

    def test_every_layer_bound_is_at_least_what_the_layer_does(
        self, certified_network: GloRoNet, telling_points: Tensor, relaxcert_check: CheckRecord
    ) -> None:
        """Singular vectors, rows and columns of each layer against its bound."""
        layers = audit_bounds.check_layer_bounds(certified_network, telling_points)
        relaxcert_check(checked=f"{layers} layers")

    def test_logit_differences_move_no_faster_than_their_constants(
        self, certified_network: GloRoNet, telling_points: Tensor, relaxcert_check: CheckRecord
    ) -> None:
        """Gradients of f_j - f_i against K_ji."""
        pairs = audit_bounds.check_network_bounds(certified_network, telling_points)
        relaxcert_check(checked=f"{pairs} pairs")

    def test_bounds_follow_the_weights(
        self, certified_network: GloRoNet, telling_points: Tensor, relaxcert_check: CheckRecord
    ) -> None:
        """No bound is stale: neither now, nor after any kind of change to a copy."""
        changes = audit_bounds.check_bounds_follow_the_weights(certified_network, telling_points)
        relaxcert_check(checked=f"{changes} kinds of change")

    def test_certificates_count_the_whole_ball(
        self, certified_network: GloRoNet, telling_points: Tensor, relaxcert_check: CheckRecord
    ) -> None:
        """Every certificate follows from f, K and all of eps."""
        with relaxcert_check.counterexamples(certified_network):
            count = audit_certificates.check_whole_ball(certified_network, telling_points)
        margins = certified_network.certify(telling_points).margin
        relaxcert_check(checked=f"{count} certificates", smallest_margin=_least(margins))

    def test_an_attack_breaks_no_certificate(
        self,
        certified_network: GloRoNet,
        telling_points: Tensor,
        relaxcert_check: CheckRecord,
        relaxcert_effort: Effort,
    ) -> None:
        """Margin PGD at every point, the just certified ones among them."""
        with relaxcert_check.counterexamples(certified_network):
            certified, falsified = audit_certificates.check_attack(
                certified_network,
                telling_points,
                steps=relaxcert_effort.steps,
                restarts=relaxcert_effort.restarts,
            )
        relaxcert_check(checked=f"{certified} certificates", falsified=falsified)

    def test_no_sample_of_a_ball_breaks_a_certificate(
        self, certified_network: GloRoNet, telling_points: Tensor, relaxcert_check: CheckRecord
    ) -> None:
        """Sphere, corners and gradient directions, judged by the definition."""
        with relaxcert_check.counterexamples(certified_network):
            examples = audit_certificates.check_samples(certified_network, telling_points)
        relaxcert_check(checked=f"{examples} examples", examples=examples)

    def test_ties_are_never_certified(
        self, certified_network: GloRoNet, telling_points: Tensor, relaxcert_check: CheckRecord
    ) -> None:
        """Neighbours of the ranking made equal in a copy."""
        if audit_certificates.last_linear(certified_network) is None:
            pytest.skip("the last layer is not nn.Linear, so no tie can be made")
        with relaxcert_check.counterexamples(certified_network):
            ties = audit_certificates.check_ties(certified_network, telling_points[-4:])
        relaxcert_check(checked=f"{ties} ties")

    def test_non_finite_points_are_never_certified(
        self, certified_network: GloRoNet, telling_points: Tensor, relaxcert_check: CheckRecord
    ) -> None:
        """NaN and infinity, by certify and by forward."""
        count = audit_certificates.check_non_finite(certified_network, telling_points)
        relaxcert_check(checked=f"{count} points")

    def test_forward_answers_only_what_certify_certifies(
        self, certified_network: GloRoNet, telling_points: Tensor, relaxcert_check: CheckRecord
    ) -> None:
        """In eval mode; and margins do not depend on the batch."""
        count = audit_certificates.check_forward(certified_network, telling_points)
        relaxcert_check(checked=f"{count} answers")

    def test_margins_count_the_rounding_of_the_forward_pass(
        self, certified_network: GloRoNet, telling_points: Tensor, relaxcert_check: CheckRecord
    ) -> None:
        """Margins at x itself against exact arithmetic."""
        some = telling_points[:8]
        try:
            count = audit_certificates.check_exact_margins(certified_network, some)
        except UnsupportedLayer as error:
            pytest.skip(f"no exact evaluation: {error}")
        relaxcert_check(checked=f"{count} margins")

    def test_certified_radii_end_where_they_say(
        self, certified_network: GloRoNet, telling_points: Tensor, relaxcert_check: CheckRecord
    ) -> None:
        """Monotone in eps, and the radius is neither too large nor idle."""
        count = audit_certificates.check_radii(certified_network, telling_points[-32:])
        relaxcert_check(checked=f"{count} points")

    def test_the_solver_refutes_no_certificate(
        self,
        certified_network: GloRoNet,
        telling_points: Tensor,
        relaxcert_check: CheckRecord,
        relaxcert_effort: Effort,
    ) -> None:
        """Exact arithmetic on a few certified points, where the network is small enough."""
        pytest.importorskip("z3")
        from relaxcert.smt import exact_network, judge

        certificates = certified_network.certify(telling_points)
        chosen = certificates.certified.nonzero().flatten().tolist()[: relaxcert_effort.judged]
        try:
            network = exact_network(certified_network.backbone, tuple(telling_points.shape[1:]))
        except RelaxcertError as error:
            pytest.skip(f"no exact encoding: {error}")
        answers: list[str] = []
        for index in chosen:
            point = telling_points[index]
            found = judge(network, exact_vector(point), certified_network.prop, budget=2.0)
            answers.append(found.verdict.answer.value)
            if found.verdict.witness is not None:
                rows = [[float(v) for v in part.witness] for part in found.evidence]
                witnesses = torch.tensor(rows, dtype=torch.float64).reshape(-1, *point.shape)
                with relaxcert_check.counterexamples(certified_network):
                    raise BrokenCertificate(
                        f"point {index} is certified, but the solver refutes it.", point, witnesses
                    )
        proved = answers.count("certified")
        relaxcert_check(checked=f"{len(answers)} certificates, {proved} proved again")


def _least(margins: Tensor) -> float:
    """The smallest positive margin; 0 if there is none."""
    positive = margins[margins > 0]
    return float(positive.min()) if len(positive) else 0.0
