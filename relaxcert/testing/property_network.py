"""A property on real networks: certificates against samples, attacks, other radii and formats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from relaxcert.attacks import attack
from relaxcert.heads.evaluation import running_output
from relaxcert.heads.gloronet import GloRoNet
from relaxcert.spec.prefix import TopK
from relaxcert.spec.property import Property
from relaxcert.testing.exact import exact_vector
from relaxcert.testing.lines import Segment
from relaxcert.testing.property_meaning import PropertyCase
from relaxcert.testing.running import for_all, require
from relaxcert.testing.sampling import violations
from relaxcert.testing.strategies.backbones import networks
from relaxcert.testing.strategies.points import exact_points

FEATURES = 2


def batches(size: int = 3) -> st.SearchStrategy[Tensor]:
    """Small batches of exact points, (1 to size, FEATURES), float32."""
    rows = st.lists(exact_points(FEATURES), min_size=1, max_size=size)
    return rows.map(lambda points: torch.tensor([list(map(float, row)) for row in points]))


class PropertyNetwork(PropertyCase):
    """Checks of networks that carry the property."""

    def drawn(self, features: int = FEATURES) -> st.SearchStrategy[nn.Sequential]:
        """Backbones that fit the property."""
        return networks(features=features, num_classes=self.classes, max_layers=2)

    def telling(self, backbone: nn.Module, inputs: Tensor) -> Property:
        """The property on balls so large that the last of the points is only just certified."""
        prop = self.make_property().with_eps(1)
        radius = GloRoNet(backbone, prop).certify(inputs).radius
        useful = [r for r in radius.tolist() if 0.0 < r < math.inf]
        eps = Fraction(max(useful)) * (1 - Fraction(1, 10**9)) if useful else Fraction(1, 8)
        return prop.with_eps(eps)

    def test_no_certificate_is_broken_by_samples_attacks_or_the_solver(self) -> None:
        """head > 0 implies that nobody finds a violation, at radii that are only just certified."""

        @for_all(self.drawn(), batches(), share=0.12)
        def sound(backbone: nn.Sequential, inputs: Tensor) -> None:
            net = GloRoNet(backbone, self.telling(backbone, inputs))
            certificates = net.certify(inputs)
            found = violations(net, inputs, certificates)
            require(not found, f"{net.prop!r} is certified by {backbone}, but broken: {found}.")
            hit = attack(net, inputs, steps=8, restarts=2).falsified & certificates.certified
            require(
                not bool(hit.any()),
                f"an attack breaks certificates of {net.prop!r} at {inputs[hit].tolist()}.",
            )

        del sound

    def test_no_certificate_is_wrong_on_networks_that_are_decided_exactly(self) -> None:
        """Networks with one input: every point of the ball, in exact arithmetic."""

        @for_all(self.drawn(features=1), exact_points(1), share=0.12)
        def sound(backbone: nn.Sequential, point: Sequence[Fraction]) -> None:
            inputs = torch.tensor([[float(point[0])]])
            net = GloRoNet(backbone, self.telling(backbone, inputs))
            if bool(net.certify(inputs).certified):
                segment = Segment(backbone, exact_vector(inputs), [Fraction(1)])
                require(
                    segment.holds(net.prop),
                    f"{net.prop!r} is certified at x = {point[0]} of {backbone}, but fails.",
                )

        del sound

    def test_a_larger_ball_certifies_less(self) -> None:
        """Monotone in eps: certified at eps implies certified at every smaller one."""

        @for_all(self.drawn(), batches(), share=0.12)
        def monotone(backbone: nn.Sequential, inputs: Tensor) -> None:
            prop = self.telling(backbone, inputs)
            eps = prop.balls[0].eps
            before = torch.ones(len(inputs), dtype=torch.bool)
            for factor in (Fraction(1, 3), Fraction(1), Fraction(3)):
                certified = GloRoNet(backbone, prop.with_eps(eps * factor)).certify(inputs)
                require(
                    not bool((certified.certified & ~before).any()),
                    f"{prop!r} is certified on a larger ball, but not on a smaller one.",
                )
                before = certified.certified

        del monotone

    def test_weaker_properties_are_certified_wherever_this_one_is(self) -> None:
        """Monotone in k: one more prefix length loses no certificate, one more demand adds none."""

        @for_all(self.drawn(), batches(), share=0.12)
        def monotone(backbone: nn.Sequential, inputs: Tensor) -> None:
            prop = self.telling(backbone, inputs)
            plain = GloRoNet(backbone, prop).certify(inputs).certified
            ball = prop.balls[0]
            for k in range(1, self.classes):
                more = TopK(k, eps=ball.eps, norm=ball.norm)
                weaker = GloRoNet(backbone, prop | more).certify(inputs).certified
                stronger = GloRoNet(backbone, prop & more).certify(inputs).certified
                require(
                    not bool((plain & ~weaker).any()),
                    f"{prop!r} is certified, but not with {more!r} as a second way to hold.",
                )
                require(
                    not bool((stronger & ~plain).any()),
                    f"{prop!r} is certified together with {more!r}, but not alone.",
                )

        del monotone

    def test_forward_certify_batches_and_precisions_agree(self) -> None:
        """An argmax other than bottom implies a certificate; batch size and dtype change none."""

        @for_all(self.drawn(), batches(5), share=0.12)
        def agree(backbone: nn.Sequential, inputs: Tensor) -> None:
            net = GloRoNet(backbone, self.telling(backbone, inputs)).eval()
            whole = net.certify(inputs)
            answered = net(inputs).argmax(1) != self.classes
            require(
                not bool((answered & ~whole.certified).any()),
                "forward answers with a class where certify certifies nothing.",
            )
            single = net.certify(inputs, batch_size=1)
            double = GloRoNet(backbone.double(), net.prop).certify(inputs.double())
            for other, what in ((single, "one point at a time"), (double, "float64 weights")):
                same = bool((other.certified == whole.certified).all())
                close = torch.allclose(other.margin, whole.margin, rtol=1e-9, equal_nan=True)
                require(same and close, f"{what} gives other verdicts or margins.")

        del agree

    def test_non_finite_points_are_never_certified(self) -> None:
        """NaN and infinity in the input."""

        @for_all(self.drawn(), st.sampled_from([math.nan, math.inf, -math.inf]), share=0.12)
        def refused(backbone: nn.Sequential, bad: float) -> None:
            net = GloRoNet(backbone, self.make_property()).eval()
            inputs = torch.tensor([[0.0, bad], [bad, bad]])
            require(not bool(net.certify(inputs).certified.any()), f"{bad} is certified.")
            require(
                bool((net(inputs).argmax(1) == self.classes).all()),
                f"{bad} is not answered by bottom.",
            )

        del refused

    def test_it_compiles_as_one_graph_and_exports(self) -> None:
        """torch.compile(fullgraph=True) and torch.export give the numbers of the running bound.

        Eager code may be a little more careful, as it knows its rounding only beforehand.
        """
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Linear(FEATURES, 4), nn.ReLU(), nn.Linear(4, self.classes))
        net = GloRoNet(backbone, self.make_property()).eval()
        inputs = torch.rand(5, FEATURES)
        bounds = net.verify(tuple(inputs.shape[1:]))
        with torch.no_grad():
            graph = net.lipschitz.current_graph(tuple(inputs.shape[1:]))
            wanted = running_output(inputs, graph, bounds, net.head)
            eager = net(inputs)
        require(torch.equal(eager[:, :-1], wanted[:, :-1]), "eager logits differ.")
        answered = eager.argmax(1) != self.classes
        require(
            torch.equal(eager.argmax(1)[answered], wanted.argmax(1)[answered]),
            "an answer of eager code is none by the running bound.",
        )
        torch.compiler.reset()
        try:
            compiled = torch.compile(net, fullgraph=True, backend="eager")
            with torch.no_grad():
                require(torch.equal(compiled(inputs), wanted), "compiled numbers differ.")
        finally:
            torch.compiler.reset()
        exported = torch.export.export(net, (inputs,)).module()
        with torch.no_grad():
            require(torch.equal(exported(inputs), wanted), "exported numbers differ.")
